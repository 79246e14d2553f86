"""The checks of chapter 3's assignment, checked: what they let pass, and what they say of a mistake."""

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

FOLDER = Path(__file__).parents[2] / "assignments" / "3_embeddings"
WRONG = sorted((Path(__file__).parent / "wrong_answers" / "3_embeddings").glob("*.py"))
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


def test_released_submitted_and_graded(tmp_path: Path, bubblewrap: str) -> None:
    """Through the whole machine, with torch on both sides: solution, empty stub, and one mistake."""
    submitted = tmp_path / "submitted"
    copy = release(FOLDER, tmp_path / "release").read_text("utf8")
    for name, text in {
        "solved": (FOLDER / "3_embeddings.ipynb").read_text("utf8"),
        "empty": copy,
        "wrong": (FOLDER / "3_embeddings.ipynb")
        .read_text("utf8")
        .replace("x = levels[skip]\\n", "x = levels[0]\\n"),
    }.items():
        folder = submitted / name / "3_embeddings"
        folder.mkdir(parents=True)
        (folder / "3_embeddings.ipynb").write_text(text, "utf8")
    isolation = find_isolation(bubblewrap)
    assert isolation.on, isolation.reason
    patient = Limits(cell_seconds=300, total_seconds=1200)  # importing torch may take long on a busy machine
    summary = grade(FOLDER, submitted, tmp_path / "graded", isolation=isolation, limits=patient)
    points = {student["name"]: student["points"] for student in summary["students"]}
    lost = [check for student in summary["students"] for check in student["checks"] if not check["passed"]]
    assert points == {"solved": POINTS, "empty": 0, "wrong": POINTS - 2}, lost
    [mistake] = [check for check in summary["students"][2]["checks"] if not check["passed"]]
    assert mistake["id"] == "edit_back" and "start at levels[4]" in mistake["message"]
