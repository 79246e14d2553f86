"""A training run survives `kill -9`, and two processes take the same steps as one."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from course.core.training import Average, fit, warmup_stable_decay
from course.train.loop import Run, generator_for, share

SCRIPT = str(Path(__file__).with_name("tiny_run.py"))


def finish(folder, steps, *, processes=1, optimizer="adamw"):
    launch = [sys.executable]
    if processes > 1:
        port = str(29_500 + hash(str(folder)) % 400)
        launch += ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(processes)]
        launch += [
            "--main_process_port",
            port,
            "--num_machines",
            "1",
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
        ]
    done = subprocess.run(
        [*launch, SCRIPT, str(folder), str(steps), "0", optimizer],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return load_file(folder / "final.safetensors"), done.stdout


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return finish(tmp_path_factory.mktemp("whole"), 60)[0]


def assert_same(a, b, tolerance=0.0):
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=tolerance)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_killed_at_any_moment_it_goes_on_from_its_checkpoint(tmp_path, tmp_path_factory, optimizer):
    uninterrupted = finish(tmp_path_factory.mktemp(optimizer), 60, optimizer=optimizer)[0]
    for _ in range(3):
        victim = subprocess.Popen(
            [sys.executable, SCRIPT, str(tmp_path), "60", "0.05", optimizer], stdout=subprocess.DEVNULL
        )
        seen = time.monotonic()
        before = (
            (tmp_path / "line.safetensors").stat().st_mtime if (tmp_path / "line.safetensors").exists() else 0
        )
        while time.monotonic() - seen < 120:
            file = tmp_path / "line.safetensors"
            if file.exists() and file.stat().st_mtime > before:
                break
            time.sleep(0.02)
        time.sleep(0.13)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        load_file(tmp_path / "line.safetensors")  # whole, whenever it was killed
    weights, said = finish(tmp_path, 60, optimizer=optimizer)
    begun = int(said.split()[-1])
    assert begun >= 3, "each life must have kept at least a checkpoint"
    assert_same(weights, uninterrupted)
    steps = [json.loads(line)["step"] for line in (tmp_path / "line.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)), "the log must not count a step twice"


def test_a_half_written_checkpoint_is_not_taken_for_a_whole_one(tmp_path, uninterrupted):
    (tmp_path / "line.part").write_bytes(b"cut short")
    weights, said = finish(tmp_path, 60)
    assert said.split()[-1] == "0"
    assert_same(weights, uninterrupted)


def test_two_processes_take_the_steps_of_one(tmp_path, uninterrupted):
    weights, _ = finish(tmp_path, 60, processes=2)
    assert_same(weights, uninterrupted, 1e-5)


def test_share_divides_a_batch_and_refuses_a_remainder():
    class Two:
        num_processes, process_index, device = 2, 1, "cpu"

    part = share({"x": torch.arange(4)}, Two())
    assert part["x"].tolist() == [2, 3]
    with pytest.raises(ValueError, match="multiple of 2"):
        share({"x": torch.arange(3)}, Two())


def test_schedule_rises_stays_and_falls():
    factor = warmup_stable_decay(1000, warmup=100, decay=0.4)
    values = [factor(i) for i in range(1001)]
    assert values[0] == pytest.approx(0.01)
    assert values[99] == values[600] == 1
    assert values[800] == pytest.approx(0.5)
    assert values[1000] == 0


def test_fit_is_plain_adamw():
    torch.manual_seed(0)
    a, b = nn.Linear(3, 1), nn.Linear(3, 1)
    b.load_state_dict(a.state_dict())
    batches = [torch.randn(5, 3) for _ in range(4)]
    losses = [p.loss for p in fit(lambda x: a(x).square().mean(), batches, a.parameters(), 0.01, clip=0)]
    optimizer = torch.optim.AdamW(b.parameters(), lr=0.01)
    for x, loss in zip(batches, losses, strict=True):
        value = b(x).square().mean()
        assert value.item() == pytest.approx(loss, rel=1e-5)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    torch.testing.assert_close(a.weight, b.weight)


def test_fit_refuses_nothing_and_nonsense():
    layer = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="nothing to train"):
        next(fit(lambda x: x, [1], [], 0.1))
    with pytest.raises(FloatingPointError, match="lower lr"):
        next(fit(lambda x: layer(x).sum() * float("nan"), [torch.ones(1, 1)], layer.parameters(), 0.1))


def test_average_forgets_its_start():
    weight = torch.zeros(1)
    average = Average([weight], 0.9)
    for _ in range(200):
        average.update([torch.ones(1)])
    assert average.weights[0].item() == pytest.approx(1, abs=1e-3)
    average.copy_to([weight])
    assert weight.item() == average.weights[0].item()


def test_the_randomness_of_a_step_depends_on_nothing_else():
    a = torch.randn(3, generator=generator_for(1, 7))
    torch.randn(5)
    assert torch.equal(a, torch.randn(3, generator=generator_for(1, 7)))
    assert not torch.equal(a, torch.randn(3, generator=generator_for(1, 8)))


def test_no_steps_is_refused(tmp_path):
    with pytest.raises(ValueError, match="steps"):
        Run("x", nn.Linear(1, 1), lambda step: {}, tmp_path, steps=0, lr=0.1)
