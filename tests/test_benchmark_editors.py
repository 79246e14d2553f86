"""The benchmarks of chapters 2 and 3 count the calls that a method needs, and agree with their rivals."""

import json

import pytest
import torch

from benchmarks import editors, job
from course.core.model import Model
from tests.core.tiny import as_model, tiny_pipeline

CALLS = {
    "DDIM inversion and a guided walk back": 4 + 4,
    "DDIB": 4 + 4,
    "DiffEdit": 2 + 3 + 3,  # both prompts on all noises; int(4 * 0.8) steps up, as many down
    "Imagic, both stages": 4 + 4,
    "Null-text inversion": 4 + 4 * (1 + 2 + 1),  # up; then the prompt, two tries, and the step
}


@pytest.fixture(scope="module")
def tiny() -> Model:
    return as_model(tiny_pipeline())


@pytest.fixture(scope="module")
def rows(tiny: Model) -> list[dict]:
    return editors.measure(tiny, steps=4, rounds=1, tries=2)


def test_each_method_asks_as_often_as_it_needs_to(rows: list[dict]) -> None:
    assert {row["job"]: row["calls"] for row in rows} == CALLS
    assert all(row["walk_ms"] > 0 < row["bare_ms"] for row in rows)
    by_name = {row["job"]: row["rows"] for row in rows}
    assert (
        by_name["DiffEdit"] == 2 * 10 + 3 + 2 * 3 and by_name["DDIM inversion and a guided walk back"] == 12
    )


def test_rivals_come_to_the_same(rows: list[dict]) -> None:
    found = {row["rival"]: row["difference"] for row in rows if "rival" in row}
    assert set(found) == {"StableDiffusionDiffEditPipeline", "guidance at every try"}
    assert max(found.values()) <= 1e-4


def test_the_calls_know_what_takes_a_gradient_and_the_replay_leaves_nothing_behind(tiny: Model) -> None:
    taken = {}
    for each in editors.jobs(tiny, 3, tries=2):
        with job.recorded(tiny.unet) as calls:
            each.walk()
        taken[each.name] = [wanted for _, _, wanted in calls]
        job.replay(tiny.unet, calls)
    assert taken["Imagic, both stages"] == ["text"] * 3 + ["weights"] * 3
    assert taken["Null-text inversion"] == ["nothing"] * 3 + ["nothing", "text", "text", "nothing"] * 3
    assert set(taken["DiffEdit"]) == set(taken["DDIB"]) == {"nothing"}
    assert not any(weight.requires_grad or weight.grad is not None for weight in tiny.unet.parameters())


def test_the_replay_asks_the_same_questions(tiny: Model) -> None:
    each = next(each for each in editors.jobs(tiny, 3, tries=2) if each.name.startswith("Null-text"))
    with job.recorded(tiny.unet) as calls:
        each.walk()
    with job.recorded(tiny.unet) as again:
        job.replay(tiny.unet, calls)
    for (args, options, wanted), (same, others, too) in zip(calls, again, strict=True):
        assert torch.equal(args[0], same[0]) and args[1] == same[1] and wanted == too
        assert torch.equal(options["encoder_hidden_states"], others["encoder_hidden_states"])


def test_the_command_prints_a_table_and_writes_the_figures(tiny, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(job, "random_model", lambda: tiny)
    arguments = ["--tiny", "--rounds", "1", "--steps", "2", "--tries", "1"]
    editors.main([*arguments, "--json", str(tmp_path / "editors.json")])
    found = json.loads((tmp_path / "editors.json").read_text("utf8"))
    assert [row["job"] for row in found["editors"]] == list(CALLS) and found["machine"]["steps"] == 2
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 2 + len(CALLS) and {line.count("|") for line in lines} == {10}
