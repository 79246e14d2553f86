"""Pictures of your own in the frame, and a folder for what the editors make of them."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from course.compare.editor import Given
from course.compare.measure import Case
from course.core.images import read_image, read_mask, to_pil

NEEDED, OPTIONAL = ("picture", "source", "target"), ("mask", "instruction")


def picture_cases(path: Path, size: int) -> list[Case]:
    """The edits that a JSON file lists, each of them a group of its own, as

        [{"picture": "cup.png", "source": "a cup of coffee", "target": "a cup of green tea",
          "mask": "cup-mask.png", "instruction": "make it green tea"}]

    Files are looked for beside the list; mask (white = may change) and instruction may be left out.
    size: pixels a side of the model's pictures. Raises FileNotFoundError for a missing file, and ValueError
    for a list that is none, an edit that lacks something or has something else, and a broken picture.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no list of pictures at {path}")
    try:
        listed = json.loads(path.read_text("utf8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{path} must hold a list of edits, [{{...}}, ...], and one edit at least")
    return [Case(_given(each, i, path.parent, size), i, "own picture") for i, each in enumerate(listed)]


def _given(each: Any, number: int, folder: Path, size: int) -> Given:
    if not isinstance(each, dict) or not all(isinstance(value, str) for value in each.values()):
        raise ValueError(f"edit {number} must hold names and texts, as {list(NEEDED)}, got {each!r}")
    missing = [name for name in NEEDED if not each.get(name)]
    unknown = [name for name in each if name not in NEEDED + OPTIONAL]
    if missing or unknown:
        wrong = f"lacks {missing[0]!r}" if missing else f"has {unknown[0]!r}"
        raise ValueError(f"edit {number} {wrong}: it needs {list(NEEDED)}, and may have {list(OPTIONAL)}")
    mask = read_mask(folder / each["mask"], size) if "mask" in each else None
    if mask is not None and not mask.any():
        raise ValueError(f"edit {number}: the mask is black, so nothing may change: paint white what may")
    picture = read_image(folder / each["picture"], size)
    return Given(picture, each["source"], each["target"], each.get("instruction"), mask)


def saver(folder: Path | None, editor: str) -> Callable[[int, Tensor], None]:
    """Writes each result to `<number>-<editor>.png` in the folder; does nothing without one."""
    name = re.sub(r"[^a-z0-9.]+", "-", editor.lower()).strip("-")

    def save(number: int, picture: Tensor) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            to_pil(picture)[0].save(folder / f"{number}-{name}.png")

    return save
