"""The four styles: filters on the finished picture, in whole numbers."""

import numpy as np
from numpy.typing import NDArray

from course.world.vocabulary import CELL, SIZE

Canvas = NDArray[np.int32]  # [64 64 3], 0..255


def _smooth(picture: Canvas) -> Canvas:
    """Binomial blur (1 2 1) x (1 2 1) / 16, the border repeated."""
    p = np.pad(picture, ((1, 1), (0, 0), (0, 0)), mode="edge")
    p = p[:-2] + 2 * p[1:-1] + p[2:]
    p = np.pad(p, ((0, 0), (1, 1), (0, 0)), mode="edge")
    return (p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:] + 8) // 16


def _border() -> Canvas:
    """How much bare paper shows, 0..256: a soft margin of five pixels."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.int32)
    near = np.minimum(np.minimum(y, SIZE - 1 - y), np.minimum(x, SIZE - 1 - x))
    return np.clip((5 - near) * 51, 0, 256)[..., None]


_BORDER = _border()


def _sketch(picture: Canvas) -> Canvas:
    """Coloured pencil: dark outlines on a pale wash."""
    soft = _smooth(picture)
    grey = soft.sum(-1) // 3
    p = np.pad(grey, 1, mode="edge")
    lines = abs(p[1:-1, 2:] - p[1:-1, :-2]) + abs(p[2:, 1:-1] - p[:-2, 1:-1])
    wash = 255 - (255 - soft) * 2 // 5
    return wash - np.clip((lines - 12) * 3 // 2, 0, 180)[..., None]


def _watercolor(picture: Canvas) -> Canvas:
    """Wet paint: blurred, in few tones, thinned with water, with a soft border of bare paper."""
    wet = _smooth(_smooth(picture))
    tones = _smooth((wet + 20) // 40 * 40)
    paint = (tones * 3 + 255) // 4
    return (paint * (256 - _BORDER) + 252 * _BORDER) // 256


def _pixel_art(picture: Canvas) -> Canvas:
    """Blocks of one cell, in eight levels a channel."""
    blocks = picture.reshape(SIZE // CELL, CELL, SIZE // CELL, CELL, 3).sum((1, 3)) // CELL**2
    levels = (blocks + 18) // 36 * 36
    return levels.repeat(CELL, 0).repeat(CELL, 1)


def stylise(picture: Canvas, style: str) -> Canvas:
    """The picture in a style, int32 [64 64 3] in 0..255."""
    filters = {"sketch": _sketch, "watercolor": _watercolor, "pixel art": _pixel_art}
    return np.clip(filters[style](picture) if style != "photo" else picture, 0, 255)
