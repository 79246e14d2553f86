"""Assignments as their author writes them, and notebooks as students send them in.

The format is nbgrader's (cell metadata `nbgrader`, schema 3). A cell's role follows from three marks:
`solution` is the student's to fill; else `grade` is a check; else `locked` is the course's own.
"""

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BEGIN_SOLUTION, END_SOLUTION = "BEGIN SOLUTION", "END SOLUTION"
BEGIN_HIDDEN, END_HIDDEN = "BEGIN HIDDEN TESTS", "END HIDDEN TESTS"
MAX_CELLS = 2000


@dataclass(frozen=True)
class Cell:
    """A cell with its role: "check", "solution", "given" or "" for any other."""

    kind: str
    source: str
    role: str = ""
    grade_id: str = ""
    points: float = 0.0

    @property
    def by_hand(self) -> bool:
        """Whether a person gives the points."""
        return self.role == "solution" and self.points > 0


def read_assignment(path: Path) -> tuple[Path, list[Cell]]:
    """The one notebook of an assignment's folder (or the notebook itself) and its cells.

    Raises FileNotFoundError where there is none, ValueError where it breaks a rule of the format.
    """
    found = [path] if path.suffix == ".ipynb" else sorted(path.glob("*.ipynb"))
    if not found or not found[0].is_file():
        raise FileNotFoundError(f"no assignment at {path}: give a notebook, or a folder that holds one")
    if len(found) > 1:
        raise ValueError(f"an assignment's folder holds one notebook; {path} holds {[p.name for p in found]}")
    cells = cells_of(json.loads(found[0].read_text("utf8")))
    _check_rules(cells, found[0])
    return found[0], cells


def read_submission(data: bytes) -> list[Cell]:
    """The cells of a notebook that a student sent; raises ValueError, in words for students."""
    try:
        cells = cells_of(json.loads(data.decode("utf8")))
    except RecursionError as error:
        raise ValueError("the file is nested too deeply to be a notebook") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        kind = type(error).__name__
        raise ValueError(f"the file is not a notebook ({kind}); save it again in Jupyter") from error
    if not any(cell.kind == "code" for cell in cells):
        raise ValueError("the notebook has no code cell")
    if len(cells) > MAX_CELLS:
        raise ValueError(f"the notebook has {len(cells)} cells; at most {MAX_CELLS} are read")
    return cells


def cells_of(notebook: Mapping[str, Any]) -> list[Cell]:
    """All cells, with their roles, of a notebook of format 4, or 3, which some tools still write.

    Raises KeyError, TypeError, ValueError or AttributeError for what is no notebook.
    """
    old = [cell for sheet in notebook.get("worksheets", []) for cell in sheet["cells"]]
    return [_cell(cell) for cell in (old or notebook["cells"])]


def _cell(cell: Mapping[str, Any]) -> Cell:
    kind, text = cell["cell_type"], cell["source"] if "source" in cell else cell["input"]
    source = text if isinstance(text, str) else "".join(text)
    if not isinstance(kind, str):
        raise TypeError("a cell's type is a word")
    metadata = cell.get("metadata")
    marks = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    if not isinstance(marks, dict) or not isinstance(marks.get("grade_id"), str):
        return Cell(kind, source)
    roles = {"solution": "solution", "grade": "check", "locked": "given"}
    role = next((role for mark, role in roles.items() if marks.get(mark)), "")
    points = marks.get("points") if marks.get("grade") else 0
    points = float(points) if isinstance(points, int | float) else 0.0
    return Cell(kind, source, role, marks["grade_id"], points)


def without(source: str, begin: str, end: str, instead: str = "") -> str:
    """A cell's text without its marked regions, each replaced by `instead`, indented as the mark was.

    Raises ValueError for a mark without its partner.
    """
    kept: list[str] = []
    inside = False
    for line in source.split("\n"):
        if (begin in line and inside) or (end in line and not inside):
            raise ValueError(f"{begin!r} and {end!r} must come in pairs, and do not in: {source[:80]!r}")
        if begin in line:
            inside = True
            indent = line[: len(line) - len(line.lstrip())]
            kept += [indent + text for text in instead.split("\n")] if instead else []
        elif end in line:
            inside = False
        elif not inside:
            kept.append(line)
    if inside:
        raise ValueError(f"{begin!r} has no {end!r} in: {source[:80]!r}")
    return "\n".join(kept)


def answer_names(cells: Iterable[Cell]) -> list[str]:
    """The names that the solutions define at their top level: what the checks ask a student for."""
    names: list[str] = []
    for cell in cells:
        if cell.role == "solution" and cell.kind == "code":
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.FunctionDef):
                    names.append(node.name)
                elif isinstance(node, ast.Assign):
                    names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return list(dict.fromkeys(names))


def _check_rules(cells: Sequence[Cell], path: Path) -> None:
    marked = [cell for cell in cells if cell.role]
    rule = "a grade_id is unique and of letters, digits, _, -"
    ids = [cell.grade_id for cell in marked]
    for cell in marked:
        if ids.count(cell.grade_id) > 1 or not re.fullmatch(r"[A-Za-z0-9_-]+", cell.grade_id):
            raise ValueError(f"{path}: {rule}; got {cell.grade_id!r}")
        if cell.role == "check" and not cell.points > 0:
            raise ValueError(f"{path}: the check {cell.grade_id} must be worth points; got {cell.points:g}")
        if cell.role == "solution" and cell.kind == "code" and BEGIN_SOLUTION not in cell.source:
            raise ValueError(f"{path}: {cell.grade_id} needs {BEGIN_SOLUTION!r} where the answer starts")
    for cell in cells:
        if BEGIN_SOLUTION in cell.source and cell.role != "solution":
            raise ValueError(f"{path}: {BEGIN_SOLUTION!r} in a cell that is not marked as a solution")
        if BEGIN_HIDDEN in cell.source and cell.role != "check":
            raise ValueError(f"{path}: {BEGIN_HIDDEN!r} in a cell that is not marked as a check")
    if not any(cell.role == "check" for cell in cells) or not answer_names(cells):
        raise ValueError(f"{path}: an assignment needs a solution that defines a name, and a check")
