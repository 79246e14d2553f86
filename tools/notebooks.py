"""Which notebooks the course has, and whether their executed copies still show what the code does."""

import hashlib
from functools import cache
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
EXECUTED = Path("build", "executed")
GENERATED = {"build", "release", "submitted", "graded", "autograded", "feedback"}  # copies, never sources


class StaleNotebook(RuntimeError):
    """An executed copy is missing, or was made from another state of the notebook or of the library."""


def on_disk(root: Path = ROOT) -> list[Path]:
    """Every source notebook below `root`, sorted, whether or not anything runs it."""
    paths = (path.relative_to(root) for path in root.rglob("*.ipynb"))
    return sorted(
        root / path
        for path in paths
        if not GENERATED & set(path.parts) and not any(part.startswith(".") for part in path.parts)
    )


def lessons(root: Path = ROOT) -> list[Path]:
    """The notebooks that are lessons, in reading order."""
    return [path for path in on_disk(root) if path.is_relative_to(root / "notebooks")]


@cache
def library_digest(root: Path = ROOT) -> str:
    """A digest of `course`: the text of its Python files, the names and sizes of its data files."""
    digest = hashlib.sha256()
    for path in sorted((root / "course").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content = path.read_bytes() if path.suffix == ".py" else str(path.stat().st_size).encode()
            digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def fingerprint(notebook: Path, root: Path = ROOT) -> str:
    """A digest of everything that a notebook's outputs depend on."""
    return hashlib.sha256(library_digest(root).encode() + notebook.read_bytes()).hexdigest()


def executed_copy(notebook: Path, root: Path = ROOT) -> NotebookNode:
    """The executed copy of a notebook; raises StaleNotebook unless it was made from today's sources."""
    path = root / EXECUTED / notebook.relative_to(root)
    if not path.is_file():
        raise StaleNotebook(f"{path} does not exist: every notebook must have been run; run `make notebooks`")
    copy = nbformat.read(path, as_version=4)
    if copy.metadata.get("course", {}).get("fingerprint") != fingerprint(notebook, root):
        raise StaleNotebook(f"{path} was made from other sources than today's; run `make notebooks`")
    return copy
