"""What students have sent, found and read without following a link or trusting a name."""

import os
import re
import stat
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

MAX_DEPTH, MAX_ENTRIES = 3, 1000  # of the folders within one submission


@dataclass(frozen=True)
class Submission:
    """One entry of the submissions' folder: a notebook to grade, or the reason for which there is none."""

    name: str
    path: Path | None = None
    refused: str = ""

    @property
    def slug(self) -> str:
        """A file name of its own, whatever the name contains."""
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", self.name)[:60]
        return f"{plain}-{sha256(os.fsencode(self.name)).hexdigest()[:8]}"


def find(folder: Path, notebook: str) -> list[Submission]:
    """Everybody's submission, by name: `NAME.ipynb`, or a folder NAME in which there is a notebook.

    Of a folder's notebooks the one named as the assignment is taken, as in nbgrader's
    submitted/NAME/ASSIGNMENT/, or the only one. Raises FileNotFoundError where `folder` is none.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: give the one with each student's notebook or folder")
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    stems = Counter(_stem(path) for path in entries)
    return [_found(path, _stem(path) if stems[_stem(path)] == 1 else path.name, notebook) for path in entries]


def _stem(path: Path) -> str:
    return path.name.removesuffix(".ipynb")


def _found(path: Path, name: str, notebook: str) -> Submission:
    if path.is_symlink():
        return Submission(name, refused="it is a link; links are not followed")
    if not path.is_dir() and path.suffix == ".ipynb":
        return Submission(name, path)
    if not path.is_dir():
        return Submission(name, refused="it is not a notebook")
    inside = _notebooks(path)
    if not inside:
        return Submission(name, refused="there is no notebook in it")
    chosen = [found for found in inside if found.name == notebook] or inside
    if len(chosen) > 1:
        return Submission(name, refused=f"which of the {len(chosen)} notebooks in it counts is not clear")
    return Submission(name, chosen[0])


def _notebooks(folder: Path) -> list[Path]:
    found: list[Path] = []
    seen = 0
    for here, folders, files in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if len(Path(here).relative_to(folder).parts) >= MAX_DEPTH:
            folders.clear()
        found += [Path(here, name) for name in files if name.endswith(".ipynb")]
        seen += len(folders) + len(files)
        if seen > MAX_ENTRIES:
            break
    return found


def read(path: Path, megabytes: int) -> bytes:
    """A submission's bytes; raises ValueError for a link, what is no plain file, and too large a file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = "it is a link; links are not followed" if path.is_symlink() else error.strerror
        raise ValueError(reason) from error
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a plain file")
        if status.st_size > megabytes * 2**20:
            size = status.st_size / 2**20
            raise ValueError(f"it has {size:.1f} MB; at most {megabytes} MB are read: clear its outputs")
        return file.read(megabytes * 2**20)
