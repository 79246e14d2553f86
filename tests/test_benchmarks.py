"""The benchmarks run, measure what they say, and write whole files."""

import json
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

import benchmarks.__main__ as command
from benchmarks import bare, methods, report
from benchmarks.timing import milliseconds, race, ratio
from benchmarks.tiny import random_model
from course.core.model import Model
from tests.core.tiny import as_model, tiny_pipeline

PROMPT = "a red cat on grass"
PAGE = "# Benchmarks\n\nBefore.\n\n<!-- begin table -->\nold\n<!-- end table -->\n\nAfter.\n"


@pytest.fixture(scope="module")
def tiny() -> Model:
    return as_model(tiny_pipeline())


def test_a_race_takes_turns_and_leaves_the_first_round_out() -> None:
    order: list[str] = []
    now = iter(range(1000))

    def clock() -> float:
        return float(next(now))

    ways = {name: lambda name=name: order.append(name) for name in "abc"}
    times = race(ways, 3, clock)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert times == {name: [1.0] * 3 for name in "abc"}
    for bad in ({}, {"rounds": 0}):
        with pytest.raises(ValueError, match="a race needs"):
            race({} if not bad else ways, **bad or {"rounds": 1})


def test_the_ratio_is_taken_within_each_round() -> None:
    times = {"a": [1.0, 20.0, 3.0], "b": [2.0, 40.0, 6.0]}  # a slow round slows both
    assert ratio(times, "a", "b") == 0.5
    assert milliseconds(times, "a") == 3000


def test_each_job_draws_what_diffusers_draws_with_the_calls_it_counts(tiny: Model) -> None:
    rows = methods.measure(tiny, PROMPT, steps=5, rounds=1)
    assert [row["calls"] for row in rows] == [5, 4, 4]  # strength 0.8
    for row in rows:
        assert row["difference"] <= 1e-4
        assert row["walk_ms"] > 0 < row["bare_ms"] and len(row["seconds"]["bare"]) == 1


def test_the_bare_calls_have_the_walk_s_shapes(tiny: Model) -> None:
    job = methods.jobs(tiny, PROMPT, 3)[0]
    with methods._calls(tiny) as calls:
        job.walk()
    assert [args[0].shape for args, _ in calls] == [(2, 4, 8, 8)] * 3
    assert [args[1] for args, _ in calls] == tiny.schedule.times(3)[:-1]
    with methods._calls(tiny) as later:
        pass
    job.walk()
    assert later == [] and len(calls) == 3


def test_without_the_unet_nothing_of_it_is_called(tiny: Model) -> None:
    job, layer = methods.jobs(tiny, PROMPT, 2)[2], type(tiny.unet.conv_in)
    with patch.object(layer, "forward", side_effect=AssertionError("called")):
        with methods._no_unet(tiny):
            job.walk()
        with pytest.raises(AssertionError, match="called"):
            job.walk()


def test_every_idea_gives_the_plain_call_s_answer_and_leaves_the_model_as_it_was(tiny: Model) -> None:
    modules = list(tiny.unet.modules())
    threads = torch.get_num_threads()
    rows = {row["idea"]: row for row in bare.measure(tiny, PROMPT, rounds=1)}
    assert rows[bare.PLAIN]["over_plain"] == 1 and rows[bare.PLAIN]["difference"] == 0
    assert rows["bfloat16"].pop("difference") < 0.1
    assert all(row.get("difference", 0) <= 1e-4 for row in rows.values())
    assert torch.get_num_threads() == threads
    assert all(a is b for a, b in zip(modules, tiny.unet.modules(), strict=True))


def test_the_command_writes_the_figures_and_the_page(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "random_model", lambda: tiny)
    page, figures = tmp_path / "benchmarks.md", tmp_path / "new" / "benchmarks.json"
    page.write_text(PAGE)
    arguments = ["--tiny", "--rounds", "1", "--steps", "2", "--prompt", PROMPT]
    command.main([*arguments, "--json", str(figures), "--markdown", str(page)])
    found = json.loads(figures.read_text())
    assert [row["calls"] for row in found["methods"]] == [2, 1, 1]
    text = page.read_text()
    assert text.startswith("# Benchmarks\n\nBefore.") and text.endswith("After.\n") and "old" not in text
    assert report.markdown(found) in text and report.markdown(found) in capsys.readouterr().out
    assert {path.name for path in tmp_path.rglob("*")} == {"benchmarks.md", "new", "benchmarks.json"}
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert [line.count("|") for line in tables[:10]] == [12] * 5 + [6] * 5
    assert {line.count("|") for line in tables[10:]} == {5} and len(tables) > 20
    report.write_page(page, report.markdown(found))
    assert page.read_text() == text


def test_a_page_without_its_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("# Benchmarks\n")
    with pytest.raises(ValueError, match="lacks the marks"):
        report.write_page(page, "", "table")
    assert page.read_text() == "# Benchmarks\n"


def test_the_site_s_page_has_its_marks() -> None:
    text = (command.ROOT / "docs" / "benchmarks.md").read_text("utf8")
    for name in ("table", "editors", "restoration", "attention", "sparse"):
        assert text.count(f"<!-- begin {name} -->") == text.count(f"<!-- end {name} -->") == 1


def test_the_random_model_has_the_stickers_shape() -> None:
    model = random_model()
    assert model.image_size == 64 and model.latent_shape == (8, 16, 16)
    assert model.encode_text("a red car on grass").shape == (1, 24, 128)
