"""The command: it resumes, leaves no half file, names who is left out, and refuses what does not fit."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from course.compare import __main__ as command
from course.compare import report
from course.compare.editor import STICKERS, Editor, Settings
from course.compare.editors import EDITORS
from course.compare.measure import Found, frame_of, part, sticker_cases
from course.compare.pictures import picture_cases
from course.compare.results import PUBLISHED, Results, as_json, read_results, write
from course.core.model import load
from tests.compare.conftest import EDIT, QUICK

PAGE = Path(__file__).parents[2] / "docs" / "comparison.md"
MACHINE = {"processor": "one", "threads": 1, "torch": "2"}


class Counting:
    """An edit that changes nothing and counts; at the count `until` it is interrupted."""

    def __init__(self, until=None):
        self.times, self.until = 0, until

    def __call__(self, model, given, settings, generator):
        self.times += 1
        if self.times == self.until:
            raise KeyboardInterrupt
        return given.picture


def run(tiny, cases, out, *editors, settings=QUICK, **options):
    return command.compare(tiny, "tiny", cases, settings, out, editors=editors, **options)


def test_an_interrupted_run_goes_on_with_the_next_editor(tiny, cases, tmp_path):
    out, first, second = tmp_path / "deep" / "out.json", Counting(), Counting(until=2)
    editors = Editor("first", first, 1), Editor("second", second, 2)
    with pytest.raises(KeyboardInterrupt):
        run(tiny, cases, out, *editors)
    assert list(read_results(out).measured) == ["first"]
    second.until = None
    found = run(tiny, cases, out, *editors)
    assert (first.times, second.times) == (2, 2 + 2), "the first is kept, the second begins anew"
    assert list(found.measured) == ["first", "second"] and read_results(out) == found
    run(tiny, cases, out, *editors)
    assert (first.times, second.times) == (2, 4)
    run(tiny, cases, out, *editors, again=True)
    assert (first.times, second.times) == (4, 6)


def test_editors_measured_again_leave_the_others(tiny, build, cases, tmp_path):
    out, first, second = tmp_path / "out.json", Counting(), Counting()
    editors = Editor("first", first, 1), Editor("second", second, 2)
    before = run(tiny, cases, out, *editors)
    found = run(tiny, cases, out, editors[1], again=True)
    assert (first.times, second.times) == (2, 4)
    assert set(found.measured) == {"first", "second"} and found.measured["first"] == before.measured["first"]
    with pytest.raises(ValueError, match="measure all that it holds anew"):
        run(tiny, cases, out, editors[1], settings=Settings(5, 3.0), again=True)
    assert read_results(out) == found


def test_a_kill_while_writing_leaves_the_old_file(tiny, cases, tmp_path, monkeypatch):
    out = tmp_path / "out.json"
    run(tiny, cases, out, Editor("first", Counting(), 1))
    before = out.read_bytes()

    def killed(path, content):
        Path(path.parent / f"{path.name}").stat()
        os.truncate(path, 3)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", lambda path, content: (path.touch(), killed(path, content)))
    with pytest.raises(KeyboardInterrupt):
        run(tiny, cases, out, Editor("first", Counting(), 1), Editor("second", Counting(), 2))
    assert out.read_bytes() == before and list(read_results(out).measured) == ["first"]


def test_an_editor_that_changed_is_measured_anew(tiny, cases, tmp_path):
    out, edit = tmp_path / "out.json", Counting()
    run(tiny, cases, out, Editor("one", edit, 1, about="strength 1"))
    run(tiny, cases, out, Editor("one", edit, 1, about="strength 2"))
    assert edit.times == 4 and read_results(out).about["one"]["about"] == "strength 2"


def test_missing_weights_are_named_and_found_later(tiny, cases, tmp_path, capsys):
    out, there = tmp_path / "out.json", []

    def opened(model):
        if not there:
            raise FileNotFoundError(f"missing {tmp_path}/drawn: train it")
        return model

    editors = Editor("plain", Counting(), 1), Editor("taught", Counting(), 4, opened=opened)
    found = run(tiny, cases, out, *editors)
    assert list(found.skipped) == ["taught"] and "taught: left out" in capsys.readouterr().out
    assert "Left out: taught" in report.markdown(found, MACHINE)
    assert str(tmp_path) not in out.read_text("utf8"), "a file that is published names no folder"
    there.append(True)
    assert not run(tiny, cases, out, *editors).skipped and list(read_results(out).measured) == [
        "plain",
        "taught",
    ]


@pytest.mark.parametrize("what", ["tasks", "steps", "weights"])
def test_another_frame_is_refused(what, tiny, build, cases, tmp_path):
    out, editor = tmp_path / "out.json", Editor("one", Counting(), 1)
    run(tiny, cases, out, editor)
    model, settings = tiny, QUICK
    if what == "tasks":
        cases = cases[:1]
    elif what == "steps":
        settings = Settings(5, 3.0)
    else:
        model = build()
        with torch.no_grad():
            model.unet.conv_out.bias.add_(1)
            model.unet.conv_out.weight.add_(1)
    before = out.read_bytes()
    with pytest.raises(ValueError, match=r"measured with other .*--again"):
        run(model, cases, out, editor, settings=settings)
    assert out.read_bytes() == before
    run(model, cases, out, editor, settings=settings, again=True)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"frame": {}}', '{"frame": 1, "cases": 2}'])
def test_a_file_of_something_else_is_refused(text, tiny, cases, tmp_path):
    out = tmp_path / "out.json"
    out.write_text(text)
    with pytest.raises(ValueError, match="does not hold a comparison"):
        run(tiny, cases, out, Editor("one", Counting(), 1))
    assert out.read_text() == text


def made_up() -> Results:
    """Two editors and a mark, in two groups of two kinds: one succeeds, one keeps."""
    cases = [[g, kind, "a", "b", None] for g in (0, 1) for kind in ("swap", "style")]
    about = {
        name: {"chapter": chapter, "needs": ["target"], "about": "", "slow": False}
        for name, chapter in (("bold", 1), ("shy", 2), ("mark", None))
    }
    wins, keeps = (
        {"bold": (1, 1, 1, 0), "shy": (0, 1, 0, 0), "mark": (1, 1, 1, 1)},
        {"bold": 20.0, "shy": 30.0},
    )
    measured = {
        name: [
            Found(i, bool(won), None if i % 2 else keeps.get(name, 40.0) + i, 15.0, 4, 8, 0.5 + i)
            for i, won in enumerate(wins[name])
        ]
        for name in wins
    }
    frame = {"model": "m", "weights": "w", "steps": 4, "guidance_scale": 3.0, "imagic": {}, "cases": cases}
    return Results(frame, about, measured, {"absent": "no weights"})


def test_means_are_over_groups():
    found = made_up()
    assert found.kinds() == ["swap", "style"]
    assert found.by_group("bold", "success") == [1.0, 0.5] and found.by_group("bold", "kept") == [20.0, 22.0]
    assert found.by_group("shy", "success", "style") == [1.0, 0.0]
    assert found.spread("bold", "kept", "style") is None
    spread = found.spread("bold", "kept")
    assert spread.mean == 21 and spread.std == pytest.approx(2**0.5) and f"{spread:.1f}" == "21.0 ± 1.4"
    assert found.typical("bold", "seconds") == 2.0


def test_tables_tell_who_wins():
    found = made_up()
    lines = report.overall(found).splitlines()
    assert len(lines) == 2 + 3 and len({line.count("|") for line in lines}) == 1
    assert "75% ± 35%" in lines[2] and "21.0 ± 1.4" in lines[2] and "| 2.0 |" in lines[2]
    kinds = {line.split(" | ")[0].strip("| "): line for line in report.by_kind(found).splitlines()[2:]}
    assert kinds["bold"].count("**") == 4, "it wins swaps, and shares the styles"
    assert kinds["shy"].count("**") == 2 and "**" not in kinds["mark"], "what is no editor does not compete"
    assert "**30.0**" not in report.by_kind(found, "kept") and "**31.0**" in report.by_kind(found, "kept")
    told = report.markdown(found, MACHINE)
    assert "Left out: absent (no weights)." in told and "4 tasks in 2 groups" in told


def test_the_plane_is_a_picture_and_needs_points():
    found = made_up()
    figure = report.plane(found, alt="two editors")
    assert figure.width > 600 and np.asarray(figure.image()).std() > 5
    blind = replace(
        found, measured={n: [replace(f, success=None) for f in m] for n, m in found.measured.items()}
    )
    with pytest.raises(ValueError, match="nothing to draw"):
        report.plane(blind, alt="nobody")
    with pytest.raises(ValueError, match="alt"):
        report.plane(found, alt="")


def test_results_survive_the_file(tmp_path):
    found = made_up()
    write(tmp_path / "out.json", as_json(found, MACHINE))
    assert read_results(tmp_path / "out.json") == found
    assert json.loads((tmp_path / "out.json").read_text("utf8"))["machine"] == MACHINE


def test_a_page_needs_its_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Page\n<!-- begin comparison -->\nold\n<!-- end comparison -->\nafter\n")
    for text in ("new", "newer"):
        report.write_page(page, text)
        marked = f"<!-- begin comparison -->\n{text}\n<!-- end comparison -->"
        assert page.read_text() == f"# Page\n{marked}\nafter\n"
    page.write_text("# Page\n")
    with pytest.raises(ValueError, match="lacks the marks"):
        report.write_page(page, "new")


@pytest.fixture
def listed(tmp_path):
    """A list of two edits, of which the second has a mask."""
    Image.new("RGB", (20, 30), (200, 30, 30)).save(tmp_path / "car.png")
    mask = Image.new("L", (20, 20))
    mask.paste(255, (0, 0, 10, 20))
    mask.save(tmp_path / "mask.png")
    plain = {"picture": "car.png", "source": EDIT[0], "target": EDIT[1]}
    path = tmp_path / "edits.json"
    path.write_text(json.dumps([plain, plain | {"mask": "mask.png", "instruction": "blue car"}]))
    return path


def test_own_pictures_run_in_the_same_frame(tiny, listed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "load", lambda name, dtype: tiny)
    names = ["SDEdit 0.8", "Blended Diffusion", "DDIB", "InstructPix2Pix"]
    asked = ["--model", "any", "--pictures", str(listed), "--steps", "4", "--only", *names]
    command.main([*asked, "--out", str(tmp_path / "out.json"), "--save", str(tmp_path / "made")])
    found = read_results(tmp_path / "out.json")
    assert [len(found.measured[name]) for name in names[:3]] == [2, 1, 2] and list(found.skipped) == names[3:]
    assert all(each.success is None and each.target is None for each in found.measured["DDIB"])
    assert [each.kept is None for each in found.measured["DDIB"]] == [True, False]
    saved = sorted(path.name for path in (tmp_path / "made").iterdir())
    assert saved == [
        "0-ddib.png",
        "0-sdedit-0.8.png",
        "1-blended-diffusion.png",
        "1-ddib.png",
        "1-sdedit-0.8.png",
    ]
    told = capsys.readouterr().out
    assert "by kind" not in told and "| DDIB | 2 | source prompt, target prompt | - |" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ("[]", "one edit at least"),
        ('{"picture": "car.png"}', "must hold a list"),
        ("[1]", "names and texts"),
        ('[{"picture": "car.png", "source": "a car"}]', "lacks 'target'"),
        ('[{"picture": "car.png", "source": "a", "target": "a", "prompt": "a"}]', "has 'prompt'"),
        ('[{"picture": "edits.json", "source": "a", "target": "a"}]', "cannot be read as a picture"),
        ('[{"picture": "car.png", "source": "a", "target": "a", "mask": "black.png"}]', "mask is black"),
    ],
)
def test_a_broken_list_is_refused(text, told, listed):
    Image.new("L", (20, 20)).save(listed.parent / "black.png")
    listed.write_text(text)
    with pytest.raises(ValueError, match=told):
        picture_cases(listed, 16)


def test_a_missing_file_is_named(listed, tmp_path):
    (tmp_path / "mask.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"mask\.png"):
        picture_cases(listed, 16)
    with pytest.raises(FileNotFoundError, match="no list"):
        picture_cases(tmp_path / "none.json", 16)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--tasks", "40"], "multiple of 30"),
        (["--only", "SDEdit"], "unknown editor 'SDEdit': use one of nothing"),
        (["--steps", "1"], "2 or more"),
        (["--model", "elsewhere"], "needs --pictures"),
        (["--pictures", "nowhere.json"], "no list of pictures"),
    ],
)
def test_a_wrong_command_is_told_why(arguments, told, capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        command.main([*arguments, "--out", str(tmp_path / "out.json")])
    assert stopped.value.code == 2 and told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out.json").exists()


def test_the_published_run_is_of_this_code():
    """After a change, measure again by the command that docs/comparison.md names."""
    found = read_results(PUBLISHED)
    cases = sticker_cases(len(found.frame["cases"]))
    assert len(cases) >= 60 and found.frame == frame_of(
        "stickers", load(dtype=torch.float32), cases, STICKERS
    )
    assert set(found.measured) | set(found.skipped) == {editor.name for editor in EDITORS}
    assert not set(found.measured) & set(found.skipped)
    for editor in EDITORS:
        if editor.name in found.measured:
            asked = part(cases) if editor.slow else list(range(len(cases)))
            assert [each.case for each in found.measured[editor.name]] == asked
            assert found.about[editor.name] == editor.entry()


def test_the_page_shows_the_published_run():
    found, page = read_results(PUBLISHED), PAGE.read_text("utf8")
    assert report.overall(found) in page and report.by_kind(found) in page
    assert "](assets/comparison.png)" in page and (PAGE.parent / "assets" / "comparison.png").is_file()
