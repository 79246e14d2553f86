"""The two networks that follow instructions: their pairs, drawn once, and a few steps of their training."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from course.core.clip import load_clip
from course.core.model import load
from course.train import instruct_pix2pix, instruction_pairs
from course.train.data import as_images
from course.train.text import make_tokenizer, tokens
from course.world import is_held_out
from tests.train.tiny_instruct import SMALL, tiny_parts, tiny_train

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small(monkeypatch):
    for name, value in SMALL.items():
        monkeypatch.setattr(instruction_pairs, name, value)


def same(a, b):
    return all(torch.equal(value, b[name]) for name, value in a.items())


# The triples.


def test_the_triples_are_the_same_each_time_of_every_kind_and_hold_nothing_out():
    found = instruction_pairs.training_tasks(9, 0, 60)
    assert found == instruction_pairs.training_tasks(9, 0, 60)
    assert found != instruction_pairs.training_tasks(9, 1, 60) != instruction_pairs.training_tasks(10, 1, 60)
    assert [task.kind for task in found] == 10 * list(instruction_pairs.KINDS)
    assert "move" not in instruction_pairs.KINDS and len(instruction_pairs.KINDS) == 6
    assert not any(is_held_out(scene) for task in found for scene in (task.source, task.target))
    with pytest.raises(ValueError, match=r"seeds 0\.\.999"):
        instruction_pairs.training_tasks(1000, 0, 1)


def test_the_tokenizer_knows_every_instruction():
    tokenizer = make_tokenizer()
    for task in instruction_pairs.training_tasks(9, 0, 600):
        assert len(tokenizer(task.instruction).input_ids) <= tokenizer.model_max_length


# The filter.


def test_clip_scores_by_hand():
    _, clip = tiny_parts()
    tasks = instruction_pairs.training_tasks(9, 0, 6)
    before, after = (as_images([getattr(task, name) for task in tasks]) for name in ("source", "target"))
    found = instruction_pairs.clip_scores(clip, before, after, tasks)
    assert list(found) == list(instruction_pairs.LEAST)
    for i, task in enumerate(tasks):
        a, b = (clip.embed_images(each[i : i + 1])[0] for each in (before, after))
        s, t = (clip.embed_text(prompt)[0] for prompt in (task.source_prompt, task.target_prompt))
        change, asked = (b - a) / (b - a).norm(), (t - s) / (t - s).norm()
        by_hand = {"caption": min(a @ s, b @ t), "likeness": a @ b, "direction": change @ asked}
        assert {name: float(value[i]) for name, value in found.items()} == pytest.approx(
            {name: float(value) for name, value in by_hand.items()}, abs=1e-4
        )


def test_the_course_s_clip_keeps_the_world_s_own_pairs_and_few_of_wrong_ones():
    model, clip = load(), load_clip()
    tasks = instruction_pairs.training_tasks(9, 0, 120)
    before, after = (
        model.decode(model.encode(as_images([getattr(task, name) for task in tasks])))
        for name in ("source", "target")
    )
    right = instruction_pairs.kept(instruction_pairs.clip_scores(clip, before, after, tasks))
    assert right.float().mean() >= 0.8
    for one, two in ((before.roll(6, 0), after), (before, before), (after, before)):
        wrong = instruction_pairs.kept(instruction_pairs.clip_scores(clip, one, two, tasks))
        assert wrong.float().mean() <= 0.02


# The pairs.


def test_pairs_are_drawn_once_and_filtered_when_read(tmp_path, small, monkeypatch):
    parts, drawn, draw = tiny_parts(), [], instruction_pairs.draw_pairs

    def counted(model, tasks, generator):
        drawn.append(len(tasks))
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return draw(model, tasks, generator)

    monkeypatch.setattr(instruction_pairs, "draw_pairs", counted)
    with pytest.raises(KeyboardInterrupt):
        instruction_pairs.drawn_pairs(tmp_path / "a", *parts, 12)
    pairs, told = instruction_pairs.drawn_pairs(tmp_path / "a", *parts, 12)
    shards = sorted((tmp_path / "a").iterdir())
    assert len(drawn) == len(shards) + 1 and {file.suffix for file in shards} == {".safetensors"}
    monkeypatch.setattr(instruction_pairs, "draw_pairs", draw)
    again, told_again = instruction_pairs.drawn_pairs(tmp_path / "b", *parts, 12)
    assert same(pairs, again) and told == told_again
    assert pairs["before"].shape == pairs["after"].shape == (12, 8, 16, 16)
    assert pairs["before"].dtype == torch.float16 and not torch.equal(pairs["before"], pairs["after"])
    assert 12 <= sum(told["kept"].values()) < sum(told["drawn"].values()) == 6 * len(shards)
    everything = [load_file(file) for file in shards]
    passed = torch.cat([each["direction"] >= 0 for each in everything])
    assert torch.equal(pairs["after"], torch.cat([each["after"] for each in everything])[passed][:12])


def test_a_filter_that_lets_nothing_pass_is_named(tmp_path, small, monkeypatch):
    monkeypatch.setattr(instruction_pairs, "LEAST", {"caption": 2.0})
    with pytest.raises(RuntimeError, match="CLIP lets 0 of 12 pairs pass"):
        instruction_pairs.drawn_pairs(tmp_path, *tiny_parts(), 1)


def test_true_pairs_are_the_world_s(small):
    model, _ = tiny_parts()
    pairs = instruction_pairs.true_pairs(model, 8)
    tasks = instruction_pairs.training_tasks(10, 0, 6) + instruction_pairs.training_tasks(10, 1, 6)[:2]
    torch.testing.assert_close(
        pairs["after"].float(), model.encode(as_images([task.target for task in tasks])), atol=1e-2, rtol=1e-3
    )
    assert pairs["tokens"].dtype == torch.long and pairs["tokens"].shape == (8, model.tokens)
    instructions = model.tokenizer.batch_decode(pairs["tokens"], skip_special_tokens=True)
    assert instructions == [task.instruction for task in tasks]


# The training.


@pytest.mark.parametrize("which", instruction_pairs.SEEDS)
def test_a_network_trains_goes_on_is_frozen_and_comes_back(tmp_path, small, which, capfd):
    *networks, told = tiny_train(tmp_path, which)
    unet, text_encoder = networks
    stickers, _ = tiny_parts()
    for network in networks:
        assert not network.training and not any(weight.requires_grad for weight in network.parameters())
    assert unet.conv_in.weight[:, 8:].abs().max() > 0
    assert not same(text_encoder.state_dict(), stickers.text_encoder.state_dict()), "it learns too"
    *again, told_again = tiny_train(tmp_path, which)
    assert all(same(one.state_dict(), two.state_dict()) for one, two in zip(networks, again, strict=True))
    assert told == told_again, "it is not done twice"
    stage = {"drawn": "instruct_pix2pix", "true": "instruct_pix2pix_true"}[which]
    assert [file.stem for file in tmp_path.glob("*.safetensors")] == [stage]
    for _ in range(2):  # the second time in the place of the first
        instruct_pix2pix.save_instruct(tmp_path / "out" / which, *networks, told)
    assert json.loads((tmp_path / "out" / which / "pairs.json").read_text())["pairs"] == 12
    capfd.readouterr()
    model = instruct_pix2pix.instruct_model(which, stickers, tmp_path / "out")
    assert "Loading" not in capfd.readouterr().err, "a progress bar leaves a widget in a notebook"
    assert model.unet.config.in_channels == 16 and model.latent_shape == stickers.latent_shape
    for name, trained in {"unet": unet, "text_encoder": text_encoder}.items():
        found = getattr(model, name)
        assert not any(weight.requires_grad for weight in found.parameters())
        for one, two in zip(found.parameters(), trained.parameters(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def test_killed_while_drawing_it_goes_on(tmp_path, small):
    script = [sys.executable, "-m", "tests.train.tiny_instruct", str(tmp_path)]
    victim = subprocess.Popen(script, stdout=subprocess.DEVNULL, cwd=ROOT)
    first = tmp_path / "instruct_pix2pix_pairs" / "00000.safetensors"
    until = time.monotonic() + 240
    while not first.exists() and time.monotonic() < until and victim.poll() is None:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    made = first.stat().st_mtime_ns
    *networks, _ = tiny_train(tmp_path, "drawn")
    assert first.stat().st_mtime_ns == made
    *whole, _ = tiny_train(tmp_path / "whole", "drawn")
    assert all(same(one.state_dict(), two.state_dict()) for one, two in zip(networks, whole, strict=True))


def test_the_loss_is_v_s_and_counts_dropped_rows_too(small):
    """Widened and not yet trained, the network misses v as the one it was made of does."""
    model, _ = tiny_parts()
    unet = instruct_pix2pix.widen(model.unet)
    null, empty = model.encode_text(""), tokens(model.tokenizer, [""])
    loss = instruct_pix2pix.InstructLoss(unet, model.text_encoder, empty, model.schedule.alpha_bar)
    draws = torch.Generator().manual_seed(0)
    before, after, noise = (torch.randn(4, 8, 16, 16, generator=draws) for _ in range(3))
    instructions, times = ["make the cat blue"] * 4, torch.tensor([10, 300, 600, 990])
    text, given = model.encode_text(instructions), tokens(model.tokenizer, instructions)
    for r, told in ((0.5, text), (0.01, null.expand(4, -1, -1)), (0.12, text)):
        found = loss(before, after, given, noise, times, torch.full((4,), r))
        expected = instruct_pix2pix.v_loss(model.unet, loss.alpha_bar, after, told, noise, times)
        torch.testing.assert_close(found, expected)


def test_what_is_not_there_is_named(tmp_path):
    stickers, _ = tiny_parts()
    with pytest.raises(FileNotFoundError, match=r"python -m course\.train instruct_pix2pix_true"):
        instruct_pix2pix.instruct_model("true", stickers, tmp_path)
    with pytest.raises(ValueError, match="a network must be one of drawn, true"):
        instruct_pix2pix.instruct_model("false", stickers, tmp_path)


def test_each_ships_in_16_megabytes():
    unet = instruct_pix2pix.widen(load().unet)
    assert 2 * sum(weight.numel() for weight in unet.parameters()) < 16e6
