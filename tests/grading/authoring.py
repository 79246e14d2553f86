"""A small assignment and hostile answers to it, made in a line each."""

import json
from pathlib import Path
from typing import Any

GIVEN = "def twice(f, x):\n    return f(f(x))"
SQUARE = "def square(x):\n    ### BEGIN SOLUTION\n    return x * x\n    ### END SOLUTION"
SQUARE_CHECK = """\
assert square(3) == 9, "square(3) must be 9"
### BEGIN HIDDEN TESTS
assert square(1234) == 1522756, "square must work for other numbers too"
### END HIDDEN TESTS"""
APPLY = "def apply(f, x):\n    ### BEGIN SOLUTION\n    return twice(f, x) + 1\n    ### END SOLUTION"
APPLY_CHECK = 'assert apply(lambda x: 10 * x, 4) == 401, "apply f twice, then add 1"'


def cell(source: str, grade_id: str = "", **marks: Any) -> dict[str, Any]:
    """A code cell, marked as nbgrader marks it where it has a grade_id."""
    plain = {"grade": False, "solution": False, "locked": False, "task": False, "schema_version": 3}
    metadata = {"nbgrader": {**plain, "grade_id": grade_id, **marks}} if grade_id else {}
    made = {
        "cell_type": "code",
        "metadata": metadata,
        "source": source,
        "outputs": [],
        "execution_count": None,
    }
    return {**made, "id": grade_id or f"cell-{abs(hash(source)) % 10**8}"}


def given() -> dict[str, Any]:
    return cell(GIVEN, "given", locked=True)


def answer(name: str, source: str) -> dict[str, Any]:
    return cell(source, name, solution=True)


def check(name: str, source: str, points: float) -> dict[str, Any]:
    return cell(source, name, grade=True, locked=True, points=points)


def notebook(*cells: dict[str, Any]) -> dict[str, Any]:
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    title = {"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# A small assignment"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": [title, *cells], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def assignment() -> dict[str, Any]:
    """Two tasks: `square` for 2 points, with a hidden test, and `apply` for 3."""
    return notebook(
        given(),
        answer("square", SQUARE),
        check("square_check", SQUARE_CHECK, 2),
        answer("apply", APPLY),
        check("apply_check", APPLY_CHECK, 3),
    )


def submission(square: str = SQUARE, apply: str = APPLY, before: str = "", after: str = "") -> dict[str, Any]:
    """What a student hands in: the answers, and cells of their own before and after."""
    cells = [given(), answer("square", square), answer("apply", apply)]
    return notebook(*[cell(before)] * bool(before), *cells, *[cell(after)] * bool(after))


def write(path: Path, content: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf8")
    return path
