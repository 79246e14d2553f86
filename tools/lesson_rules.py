"""What every notebook must be, and what a lesson must be besides, read off the file without running it."""

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache

from nbformat import NotebookNode

import course.figures

CELLS = range(16, 41)
LONGEST_CELL = 25  # lines of code
ABSOLUTE_PATH = re.compile(
    r"(?<![\w:/.<])(~|/(home|Users|tmp|root|mnt|usr|opt|var|content))/\w|\b[A-Z]:\\+\w"
)
MARKERS = re.compile(r"NBVAL_|PYTEST_VALIDATE|pytest\.skip|nbval-skip|nbval-ignore-output")


@cache
def figure_names() -> frozenset[str]:
    """The names in `course.figures` that take an `alt`."""
    members = {name: member for name, member in vars(course.figures).items() if _takes_arguments(member)}
    takes_alt = {name for name, member in members.items() if "alt" in inspect.signature(member).parameters}
    return frozenset(takes_alt - {"Figure", "require_alt"})


def _takes_arguments(member: object) -> bool:
    return inspect.isfunction(member) or inspect.isclass(member)


def code_of(cell: NotebookNode) -> ast.Module:
    """A code cell's syntax tree; lines of magic commands are passed over."""
    return ast.parse(re.sub(r"^\s*[%!].*", "", cell.source, flags=re.MULTILINE))


def general_problems(notebook: NotebookNode) -> Iterator[str]:
    """What is wrong with a notebook of any kind."""
    cells = notebook.cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    if not cells or cells[0].cell_type != "markdown" or not cells[0].source.startswith("# "):
        yield "the first cell must be Markdown and start with the title, '# …'"
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernelspec must be python3"
    ids = [cell.get("id") for cell in cells]
    if None in ids or len(set(ids)) < len(ids):
        yield "every cell needs an id of its own"
    if any(cell.outputs or cell.execution_count is not None for cell in code):
        yield "outputs and execution counts must be stripped: jupyter nbconvert --clear-output --inplace"
    if not any(isinstance(node, ast.Assert) for cell in code for node in ast.walk(code_of(cell))):
        yield "at least one cell must assert something"
    for number, cell in enumerate(cells):
        if found := ABSOLUTE_PATH.search(cell.source):
            yield f"cell {number} names an absolute path: {found[0]!r}"
        if MARKERS.search(cell.source + " ".join(cell.metadata.get("tags", []))):
            yield f"cell {number} asks nbval to look away"


def lesson_problems(notebook: NotebookNode) -> Iterator[str]:
    """What is wrong with a notebook as a lesson."""
    if len(notebook.cells) not in CELLS:
        yield f"a lesson has {CELLS.start} to {CELLS.stop - 1} cells, this one {len(notebook.cells)}"
    code = [(number, cell) for number, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    imports = ast.Import | ast.ImportFrom
    importing = [
        number for number, cell in code if any(isinstance(node, imports) for node in code_of(cell).body)
    ]
    if len(importing) > 1:
        yield f"imports stand in one cell, not in cells {importing}"
    for number, cell in code:
        if len(cell.source.splitlines()) > LONGEST_CELL:
            yield f"cell {number} has more than {LONGEST_CELL} lines: move code to the library or split it"
        for node in ast.walk(code_of(cell)):
            yield from (f"cell {number}: {problem}" for problem in _picture_problems(node))


def _picture_problems(node: ast.AST) -> Iterator[str]:
    imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    if isinstance(node, ast.ImportFrom):
        imported = [node.module or ""]
    if any(name.split(".")[0] in ("matplotlib", "seaborn", "plotly") for name in imported):
        yield "pictures come from course.figures, which asks for alt=, not from a plotting library"
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        alt = next((keyword.value for keyword in node.keywords if keyword.arg == "alt"), None)
        if name in figure_names() and (alt is None or (isinstance(alt, ast.Constant) and not alt.value)):
            yield f"{name} needs alt=, a text that stands for the picture"
