"""The checks of chapter 2's assignment, checked: what they let pass, and what they say of a mistake."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from course.grading.grade import grade
from course.grading.limits import Limits
from course.grading.notebooks import BEGIN_SOLUTION, END_SOLUTION, Cell, read_assignment, without
from course.grading.release import STUB, release
from course.grading.sandbox import find_isolation

FOLDER = Path(__file__).parents[2] / "assignments" / "2_inversion"
WRONG = sorted((Path(__file__).parent / "wrong_answers" / "2_inversion").glob("*.py"))
POINTS = 20


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    return read_assignment(FOLDER)[1]


def failed(cells: list[Cell], answers: dict[str, Any] | None) -> dict[str, str]:
    """What the checks say that fail, with the solutions, or with the stubs where `answers` is None."""
    space: dict[str, Any] = {}
    for cell in cells:
        if cell.kind == "code" and cell.role in ("given", "solution"):
            stub = cell.role == "solution" and answers is None
            code = without(cell.source, BEGIN_SOLUTION, END_SOLUTION, STUB) if stub else cell.source
            exec(compile(code, cell.grade_id, "exec"), space)
    space |= answers or {}
    said = {}
    for cell in cells:
        if cell.role == "check":
            try:
                exec(compile(cell.source, cell.grade_id, "exec"), space)
            except Exception as error:
                said[cell.grade_id] = f"{type(error).__name__}: {error}"
    return said


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_solution_passes_every_check(cells: list[Cell]) -> None:
    assert failed(cells, {}) == {}
    assert sum(cell.points for cell in cells) == POINTS


def test_the_empty_stub_fails_every_check(cells: list[Cell]) -> None:
    said = failed(cells, None)
    assert set(said) == {cell.grade_id for cell in cells if cell.role == "check"}
    assert {text.split(":")[0] for text in said.values()} == {"NotImplementedError"}


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_a_wrong_answer_fails_the_check_that_names_it_and_no_other(path: Path, cells: list[Cell]) -> None:
    wrong = load(path)
    mistaken = {
        name: value for name, value in vars(wrong).items() if getattr(value, "__module__", "") == path.stem
    }
    assert len(mistaken) == 1, "a wrong answer is one function"
    said = failed(cells, mistaken)
    assert list(said) == [wrong.CHECK]
    assert re.search(wrong.SAYS, said[wrong.CHECK]), said[wrong.CHECK]


def test_every_check_has_a_wrong_answer_that_only_it_catches(cells: list[Cell]) -> None:
    caught = {load(path).CHECK for path in WRONG}
    assert caught == {cell.grade_id for cell in cells if cell.role == "check"}


def test_a_mask_upside_down_is_caught(cells: list[Cell]) -> None:
    """It is wrong everywhere, so it fails both of the edit's checks."""
    space: dict[str, Any] = {}
    for cell in cells:
        if cell.kind == "code" and cell.role in ("given", "solution"):
            exec(compile(cell.source, cell.grade_id, "exec"), space)
    right = space["edit_in_pairs"]

    def upside_down(up: Any, down: Any, x_0: Any, mask: Any, times: Any) -> Any:
        return right(up, down, x_0, 1 - mask, times)

    said = failed(cells, {"edit_in_pairs": upside_down})
    assert list(said) == ["edit_whole", "edit_levels"]


def test_the_pairs_come_back_exactly(cells: list[Cell], capsys: pytest.CaptureFixture[str]) -> None:
    """The last cell, which nobody grades, shows what the assignment is about."""
    space: dict[str, Any] = {}
    for cell in cells:
        if cell.kind == "code" and cell.role != "check":
            exec(compile(cell.source, cell.grade_id, "exec"), space)
    told = capsys.readouterr().out.splitlines()[-2:]
    plain, pairs = (float(re.findall(r"back (\S+) away", line)[0]) for line in told)
    assert pairs < 1e-6 < 0.1 < plain


def test_released_submitted_and_graded(tmp_path: Path, bubblewrap: str) -> None:
    """Through the whole machine, with torch on both sides: solution, empty stub, and one mistake."""
    submitted = tmp_path / "submitted"
    copy = release(FOLDER, tmp_path / "release").read_text("utf8")
    solved = (FOLDER / "2_inversion.ipynb").read_text("utf8")
    right = "x, y = blend(x, pairs[s][0], mask), blend(y, pairs[s][1], mask)"
    late = solved.replace(right, right.replace("[s]", "[t]"))
    assert late != solved
    for name, text in {"solved": solved, "empty": copy, "wrong": late}.items():
        folder = submitted / name / "2_inversion"
        folder.mkdir(parents=True)
        (folder / "2_inversion.ipynb").write_text(text, "utf8")
    isolation = find_isolation(bubblewrap)
    assert isolation.on, isolation.reason
    patient = Limits(cell_seconds=300, total_seconds=1200)  # importing torch may take long on a busy machine
    summary = grade(FOLDER, submitted, tmp_path / "graded", isolation=isolation, limits=patient)
    points = {student["name"]: student["points"] for student in summary["students"]}
    lost = [check for student in summary["students"] for check in student["checks"] if not check["passed"]]
    assert points == {"solved": POINTS, "empty": 0, "wrong": POINTS - 3}, lost
    [mistake] = [check for check in summary["students"][2]["checks"] if not check["passed"]]
    assert mistake["id"] == "edit_levels" and "one step too noisy" in mistake["message"]
