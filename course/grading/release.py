"""The students' copy of an assignment: the same notebook without solutions, hidden tests and outputs."""

from pathlib import Path

from course.grading.notebooks import (
    BEGIN_HIDDEN,
    BEGIN_SOLUTION,
    END_HIDDEN,
    END_SOLUTION,
    cells_of,
    read_assignment,
    without,
)

STUB = "# YOUR CODE HERE\nraise NotImplementedError()"
TEXT_STUB = "YOUR ANSWER HERE"


def release(assignment: Path, folder: Path) -> Path:
    """The students' copy of `assignment` (a notebook, or a folder with one), written into `folder`; its path.

    Cell for cell it is what `nbgrader generate_assignment` makes. Raises FileNotFoundError, and ValueError
    where the assignment breaks a rule of the format or `folder` is where it lies.
    """
    import nbformat  # takes seconds, which grading does without

    path, _ = read_assignment(assignment)
    target = folder / path.name
    if target.resolve() == path.resolve():
        raise ValueError(f"{folder} holds the assignment itself: release into another folder")
    copy = nbformat.read(path, as_version=4)
    for cell, node in zip(cells_of(copy), copy.cells, strict=True):
        if cell.role == "solution":
            stub = STUB if cell.kind == "code" else TEXT_STUB
            marked = BEGIN_SOLUTION in cell.source
            node.source = without(cell.source, BEGIN_SOLUTION, END_SOLUTION, stub) if marked else stub
        node.source = without(node.source, BEGIN_HIDDEN, END_HIDDEN)
        if cell.role:
            node.metadata["deletable"] = False
        if cell.role in ("check", "given"):
            node.metadata["editable"] = False
        if cell.kind == "code":
            node.outputs, node.execution_count = [], None
    folder.mkdir(parents=True, exist_ok=True)
    aside = target.with_suffix(".partial")
    nbformat.write(copy, aside)
    aside.replace(target)
    return target
