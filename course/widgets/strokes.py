"""Strokes of a brush as pixels; `painter.js` paints by the same rule, so the browser agrees to the pixel.

The rule: a pixel is painted when its centre lies at most half the brush's width from the stroke's line.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PALETTE = {
    "black": "#1b1b1b",
    "white": "#ffffff",
    "grey": "#9aa0a6",
    "brown": "#8b5a2b",
    "red": "#d7263d",
    "orange": "#f28c28",
    "yellow": "#f5d327",
    "green": "#3fae49",
    "blue": "#2f6fde",
    "purple": "#8e44ad",
    "pink": "#f07fb2",
    "grass": "#6aa84f",
    "sand": "#e6cf9c",
    "sea": "#2b7a9e",
    "night": "#1b2350",
}
ERASER = ""
WIDEST = 64.0


@dataclass(frozen=True)
class Stroke:
    """One line of a brush through `points`, (x, y) in pixels from the upper left corner; no points: fill all.

    colour: a name of the palette, "#rrggbb", or ERASER, which brings back what was there before painting.
    width: pixels. Raises ValueError for points that are not pairs of numbers and a width outside (0, 64].
    """

    colour: str
    points: Sequence[tuple[float, float]] = ()
    width: float = 8.0

    def __post_init__(self) -> None:
        points = np.asarray(self.points, dtype=float)
        if len(points) and (points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all()):
            raise ValueError(f"points are pairs (x, y) of numbers, got {self.points}")
        if not 0 < self.width <= WIDEST:
            raise ValueError(
                f"the brush is more than 0 and at most {WIDEST:.0f} pixels wide, got {self.width}"
            )

    def as_message(self, palette: Mapping[str, str]) -> dict[str, Any]:
        """What the browser is told. Raises ValueError for a colour that is none."""
        points = [[float(x), float(y)] for x, y in self.points]
        return {"colour": hex_colour(self.colour, palette), "points": points, "width": float(self.width)}


def hex_colour(colour: str, palette: Mapping[str, str]) -> str:
    """The colour as "#rrggbb" (ERASER stays as it is). Raises ValueError for an unknown name."""
    found = palette.get(colour, colour)
    if found != ERASER and not re.fullmatch(r"#[0-9a-fA-F]{6}", found):
        raise ValueError(f"unknown colour {colour!r}: use #rrggbb or one of {', '.join(palette)}")
    return found


def rgb(colour: str) -> tuple[int, ...]:
    """Red, green and blue of "#rrggbb"."""
    return tuple(bytes.fromhex(colour.removeprefix("#")))


def covered(points: Sequence[Sequence[float]], width: float, size: int) -> NDArray[np.bool_]:
    """[size size], True where the stroke paints."""
    if not points:
        return np.ones((size, size), bool)
    y, x = np.mgrid[:size, :size] + 0.5
    found = np.zeros((size, size), bool)
    for (ax, ay), (bx, by) in zip(points, [*points[1:], points[-1]], strict=True):
        dx, dy = bx - ax, by - ay
        length = dx * dx + dy * dy
        along = ((x - ax) * dx + (y - ay) * dy) / length if length else np.zeros_like(x)
        along = along.clip(0, 1)
        off_x, off_y = x - (ax + along * dx), y - (ay + along * dy)
        found |= off_x * off_x + off_y * off_y <= width * width / 4
    return found


def painted(
    strokes: Iterable[Mapping[str, Any]], base: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """(picture [size size 3], True where a stroke is [size size]) after the strokes, in order, on `base`."""
    picture, touched = base.copy(), np.zeros(base.shape[:2], bool)
    for stroke in strokes:
        where = covered(stroke["points"], stroke["width"], base.shape[0])
        erase = stroke["colour"] == ERASER
        picture[where] = base[where] if erase else rgb(stroke["colour"])
        touched[where] = not erase
    return picture, touched
