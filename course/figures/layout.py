"""A sheet of enlarged pictures with words over, under and beside them."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure as Sheet

from course.figures.figure import DENSITY, INK, PAGE_WIDTH, QUIET, Figure, finished, sheet
from course.figures.pixels import Pixels, enlarged

GAP, MARGIN, LINE = 10, 10, 16
SIDE, BAR = 110, 84  # room for row titles and for a colour bar
LETTER = 7.0  # page pixels that one letter of the 12 pixel face takes, wide letters counted in
LARGEST, SMALLEST = 256, 128  # a picture of 64 pixels is shown x2 to x4


@dataclass(frozen=True)
class Words:
    """What stands around the pictures. above: one for each picture, or one for each column."""

    above: Sequence[str] = ()
    below: Sequence[str] = ()
    beside: Sequence[str] = ()
    caption: str | None = None
    bar: tuple[float, str] | None = None  # largest value and name of a colour bar that starts at 0


def fitting(pictures: int) -> int:
    """Pictures in a row when nobody says how many."""
    return min(pictures, (PAGE_WIDTH - 2 * MARGIN + GAP) // (SMALLEST + GAP))


def draw(pixels: Sequence[Pixels], columns: int, words: Words, alt: str) -> Figure:
    """The pictures in rows of `columns`, enlarged by one whole number where the page has room for it."""
    rows = math.ceil(len(pixels) / columns)
    left = MARGIN + (SIDE if words.beside else 0)
    cell = _cell_width(pixels, (PAGE_WIDTH - left - MARGIN - (BAR if words.bar else 0)) // columns - GAP)
    shown = [enlarged(each, cell * DENSITY) for each in pixels]
    tall = math.ceil(max(each.shape[0] for each in shown) / DENSITY)
    above, below = _wrapped(words.above, cell), _wrapped(words.below, cell)
    head, foot = _height(above), _height(below)
    each_row = len(above) == len(pixels)  # else the words above name the columns
    pitch = (head if each_row else 0) + tall + foot + GAP
    width = left + columns * (cell + GAP) - GAP + MARGIN + (BAR if words.bar else 0)
    note = textwrap.fill(words.caption, int(width / LETTER)) if words.caption else ""
    height = MARGIN + (0 if each_row else head) + rows * pitch - GAP + MARGIN + _height([note])
    with sheet(width, height) as page:
        for index, picture in enumerate(shown):
            row, column = divmod(index, columns)
            x, y = left + column * (cell + GAP), MARGIN + head + row * pitch
            if each_row or row == 0:
                _write(page, x + cell / 2, y - 8, above[index] if above else "", "baseline")
            _place(page, picture, x + cell / 2, y)
            _write(page, x + cell / 2, y + tall + 4, below[index] if below else "", "top")
            if words.beside and column == 0:
                name = textwrap.fill(words.beside[row], int(SIDE / LETTER))
                _write(page, left - 8, y + tall / 2, name, "center", across="right")
        _write(page, left, height - MARGIN, note, "bottom", across="left", colour=QUIET)
        if words.bar:
            _colour_bar(page, width - BAR + 4, MARGIN + head, tall, *words.bar)
        return finished(page, alt)


def _cell_width(pixels: Sequence[Pixels], room: int) -> int:
    """Page pixels for a picture: a whole number for each of its own, unless it is wider than the room."""
    tallest, widest = (max(each.shape[axis] for each in pixels) for axis in (0, 1))
    if widest > room:
        return max(room, 16)
    return max(min(room // widest, LARGEST // tallest), 1) * widest


def _wrapped(texts: Sequence[str], width: int) -> list[str]:
    return [textwrap.fill(str(text), max(4, int(width / LETTER)), break_long_words=False) for text in texts]


def _height(texts: Sequence[str]) -> int:
    return max((text.count("\n") + 1 for text in texts), default=0) * LINE + 6 if any(texts) else 0


def _write(
    page: Sheet, x: float, y: float, text: str, down: str, across: str = "center", colour: str = INK
) -> None:
    width, height = page.get_size_inches() * 72
    style = {"va": down, "ha": across, "color": colour, "linespacing": 1.15, "parse_math": False}
    page.text(x / width, 1 - y / height, text, None, **style)


def _place(page: Sheet, picture: Pixels, middle: float, y: float) -> None:
    """The picture's dots, each one dot of the sheet: `figimage` does not resample."""
    height = round(page.get_size_inches()[1] * 72 * DENSITY)
    x = round(middle * DENSITY - picture.shape[1] / 2)
    page.figimage(picture, x, height - round(y * DENSITY) - picture.shape[0])


def _colour_bar(page: Sheet, x: float, y: float, tall: float, top: float, name: str) -> None:
    width, height = page.get_size_inches() * 72
    axes = page.add_axes((x / width, 1 - (y + tall) / height, 12 / width, tall / height))
    axes.imshow(np.linspace(1, 0, 256)[:, None], cmap="viridis", aspect="auto", extent=(0, 1, 0, top))
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.set_yticks([0, top / 2, top], [f"{value:.2g}" for value in (0, top / 2, top)], fontsize=11)
    axes.set_ylabel(name)
    axes.yaxis.set_label_position("right")
    axes.spines[:].set_visible(False)
