"""What is particular to the checks of chapter 2's assignment."""

import re
from typing import Any

import pytest

from course.grading.notebooks import Cell
from tests.assignments.assignment_checks import cells_of, failed


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    return cells_of("2_inversion")


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
