"""What the tests of all assignments share: the checks, run on solutions, stubs and mistakes."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from course.grading.notebooks import BEGIN_SOLUTION, END_SOLUTION, Cell, read_assignment, without
from course.grading.release import STUB

ASSIGNMENTS = Path(__file__).parents[2] / "assignments"
CHAPTERS = sorted(folder.name for folder in ASSIGNMENTS.iterdir() if folder.is_dir())
WRONG_ANSWERS = Path(__file__).parent / "wrong_answers"


def cells_of(chapter: str) -> list[Cell]:
    return read_assignment(ASSIGNMENTS / chapter)[1]


def wrong_answers(chapter: str) -> list[Path]:
    return sorted((WRONG_ANSWERS / chapter).glob("*.py"))


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
