"""Pictures beside each other: grid, filmstrip, heatmap."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray

from course.figures.figure import Figure, require_alt
from course.figures.layout import Words, draw, fitting
from course.figures.pixels import Pixels, to_pixels


def grid(
    images: Any,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    row_titles: Sequence[str] | None = None,
    caption: str | None = None,
    *,
    alt: str,
) -> Figure:
    """The pictures in rows, on one scale, with titles over them.

    images: whatever `to_pixels` reads; of a list of equally long batches each becomes a row.
    titles: one for each picture, or one for each column. row_titles: one for each row. caption: under all.
    Raises ValueError for an empty `alt` and for titles of the wrong number.
    """
    alt, pixels = require_alt(alt), to_pixels(images)
    columns = min(_count("columns", columns) or _row_length(images) or fitting(len(pixels)), len(pixels))
    rows = math.ceil(len(pixels) / columns)
    if titles is not None and len(titles) not in (len(pixels), columns):
        held = f"{len(pixels)} pictures in {columns} columns"
        raise ValueError(f"{len(titles)} titles for {held}: give one for each picture or column")
    if row_titles is not None:
        _one_each("row titles", row_titles, rows, "rows")
    return draw(pixels, columns, Words(above=titles or (), beside=row_titles or (), caption=caption), alt)


def filmstrip(images: Any, labels: Sequence[str], *, alt: str, columns: int | None = None) -> Figure:
    """The frames in the order of time, each with its label under it; a long strip goes on in the next row.

    Raises ValueError for an empty `alt` and when frames and labels differ in number.
    """
    alt, pixels = require_alt(alt), to_pixels(images)
    _one_each("labels", labels, len(pixels), "frames")
    columns = min(_count("columns", columns) or fitting(len(pixels)), len(pixels))
    return draw(pixels, columns, Words(below=labels), alt)


def heatmap(
    image: Any,
    maps: Any,
    titles: Sequence[str],
    *,
    alt: str,
    label: str = "attention",
    top: float | None = None,
) -> Figure:
    """The picture, then each map laid over it, with one colour bar from 0 to `top` for all.

    maps: [n h w] or a sequence of [h w], never negative; shown in blocks, as coarse as they are.
    top: value of the brightest colour; the largest found when it is not given.
    Raises ValueError for an empty `alt`, other maps, and when maps and titles differ in number.
    """
    alt, base = require_alt(alt), to_pixels(image)[0]
    values = [_map(each) for each in maps]
    if not values:
        raise ValueError("there is no map to show: pass [n h w]")
    _one_each("titles", titles, len(values), "maps")
    if top is not None and not top > 0:
        raise ValueError(f"the brightest colour needs a value above 0, got top={top}")
    most = top or float(max(each.max() for each in values)) or 1.0
    shown = [base, *(_overlay(base, each / most) for each in values)]
    return draw(shown, min(len(shown), 5), Words(above=("picture", *titles), bar=(most, label)), alt)


def _map(values: Any) -> NDArray[Any]:
    found = np.asarray(values.detach().float().cpu() if isinstance(values, torch.Tensor) else values)
    if found.ndim != 2 or not np.isfinite(found).all() or found.min() < 0:
        shape = list(found.shape)
        raise ValueError(
            f"a map is [h w], finite and not negative, got {shape}: take the mean over heads first"
        )
    return found


def _overlay(base: Pixels, share: NDArray[Any]) -> Pixels:
    """The map's colours with the grey picture shining through; its cells stay blocks, nothing is smoothed."""
    down = np.arange(base.shape[0]) * share.shape[0] // base.shape[0]
    across = np.arange(base.shape[1]) * share.shape[1] // base.shape[1]
    colours = colormaps["viridis"](share[down][:, across].clip(0, 1))[..., :3]
    light = (base / 255) @ np.array([0.299, 0.587, 0.114])
    seen = 0.7 * colours + 0.3 * light[..., None]
    return (seen * 255).round().astype(np.uint8)


def _row_length(images: Any) -> int | None:
    """Pictures in each batch of a list of equally long batches."""
    if isinstance(images, list | tuple):
        lengths = {len(to_pixels(each)) for each in images}
        if len(lengths) == 1 and lengths != {1}:
            return lengths.pop()
    return None


def _count(name: str, value: int | None) -> int | None:
    if value is not None and value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value


def _one_each(name: str, texts: Sequence[str], count: int, things: str) -> None:
    if len(texts) != count:
        raise ValueError(f"{len(texts)} {name} for {count} {things}: give one for each")
