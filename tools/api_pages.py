"""The API pages of the site: each public name of `course`, with the lessons that use it."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from nbformat import NotebookNode

Use = tuple[str, str]  # module, public name
HEADLESS = "{members: false, show_root_heading: false, show_root_toc_entry: false}"


def public_names(source: str) -> list[str]:
    """The public functions, classes and constants that a module defines, in its order."""
    names: list[str] = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return [name for name in names if not name.startswith("_")]


def library(root: Path) -> dict[str, list[str]]:
    """Each module below `root/course` with its public names."""
    modules = {}
    for path in sorted((root / "course").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if not parts[-1].startswith("_") or parts[-1] == "__init__":
            modules[".".join(parts).removesuffix(".__init__")] = public_names(path.read_text("utf8"))
    return modules


def _home(modules: dict[str, list[str]], module: str, name: str) -> Use | None:
    """Where a name imported from `module` is defined: there, or in a module below it."""
    below = [other for other in modules if other.startswith(module + ".")]
    return next(((place, name) for place in [module, *below] if name in modules.get(place, [])), None)


def uses(code: str, modules: dict[str, list[str]]) -> Iterator[Use]:
    """The public names of the library that code imports, or reaches through an imported module."""
    lines = [line for line in code.splitlines() if not line.lstrip().startswith(("%", "!"))]
    tree = ast.parse("\n".join(lines))
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "course":
            for alias in node.names:
                if (module := f"{node.module}.{alias.name}") in modules:
                    aliases[alias.asname or alias.name] = module
                elif home := _home(modules, node.module, alias.name):
                    yield home
        elif isinstance(node, ast.Import):
            aliases |= {alias.asname: alias.name for alias in node.names if alias.asname}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            home = _home(modules, aliases[node.value.id], node.attr)
            if home:
                yield home


def lessons_by_name(
    notebooks: Iterable[tuple[str, NotebookNode]], modules: dict[str, list[str]]
) -> dict[Use, list[str]]:
    """For each public name the lessons that use it. `notebooks`: (what to list, the notebook)."""
    found: dict[Use, list[str]] = defaultdict(list)
    for label, notebook in notebooks:
        code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
        for use in dict.fromkeys(uses(code, modules)):
            found[use].append(label)
    return dict(found)


def api_pages(modules: dict[str, list[str]], users: dict[Use, list[str]]) -> dict[str, str]:
    """Page name -> Markdown, a page for each room of the library."""
    rooms: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        if module != "course":
            rooms[module.split(".")[1]].append(module)
    return {room: _page(room, names, modules, users) for room, names in rooms.items()}


def _page(room: str, names: list[str], modules: dict[str, list[str]], users: dict[Use, list[str]]) -> str:
    parts = [f"# `course.{room}`\n"]
    for module in names:
        if module.count(".") > 1:
            parts.append(f"## `{module}`\n")
        parts.append(f"::: {module}\n    options: {HEADLESS}\n")
        for name in modules[module]:
            parts.append(f"::: {module}.{name}\n    options: {{heading_level: 3}}\n")
            if lessons := users.get((module, name)):
                parts.append(f'<p class="used-in" markdown>Used in: {", ".join(lessons)}.</p>\n')
    return "\n".join(parts)
