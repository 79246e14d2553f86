"""Numbers as pictures: curves over a knob, and two measures against each other."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from numpy.typing import NDArray

from course.figures.figure import COLOURS, QUIET, Figure, finished, require_alt, sheet

WIDTH, HEIGHT = 640, 360
MARKERS, DASHES = "os^Dv*PX", ("-", "--", "-.", ":")
Series = Sequence[float] | NDArray[Any]


def curves(
    x: Series,
    lines: Mapping[str, Series | tuple[Series, Series]],
    xlabel: str,
    ylabel: str,
    *,
    alt: str,
    title: str | None = None,
) -> Figure:
    """One line for each name over `x`: values, or a pair (mean, standard deviation) that gets a band.

    Names differ in colour, marker and dash, so that they are told apart in grey too.
    Raises ValueError for an empty `alt`, no lines, and a line that is not as long as `x`.
    """
    alt, along = require_alt(alt), _numbers("x", x)
    if not lines:
        raise ValueError("there is no line to draw: pass {name: values}")
    with sheet(WIDTH, HEIGHT) as page:
        axes = _axes(page, xlabel, ylabel, title)
        for index, (name, values) in enumerate(lines.items()):
            mean, spread = values if isinstance(values, tuple) else (values, None)
            colour, marker, dash = _look(index)
            middle = _numbers(name, mean, len(along))
            axes.plot(along, middle, color=colour, marker=marker, linestyle=dash, markersize=5, label=name)
            if spread is not None:
                band = _numbers(f"{name}, spread", spread, len(along))
                axes.fill_between(along, middle - band, middle + band, color=colour, alpha=0.18, linewidth=0)
        _legend(axes, len(lines))
        return finished(page, alt)


def scatter(
    points: Mapping[str, tuple[Series, Series]],
    xlabel: str,
    ylabel: str,
    *,
    alt: str,
    joined: bool = False,
    title: str | None = None,
) -> Figure:
    """For each name its single measurements (x, y), pale, and their mean with a standard deviation each way.

    joined: a thin line from mean to mean in the order given, for the settings of one knob; names then stand
    beside their points. Raises ValueError for an empty `alt`, no points, and x and y of unlike length.
    """
    alt = require_alt(alt)
    if not points:
        raise ValueError("there is no point to draw: pass {name: (x values, y values)}")
    found = [(name, _numbers(name, x), _numbers(name, y, len(x))) for name, (x, y) in points.items()]
    with sheet(WIDTH, HEIGHT) as page:
        axes = _axes(page, xlabel, ylabel, title)
        if joined:
            means = np.array([(x.mean(), y.mean()) for _, x, y in found])
            axes.plot(means[:, 0], means[:, 1], color=QUIET, linewidth=1)
        for index, (name, x, y) in enumerate(found):
            colour, marker, _ = _look(0 if joined else index)
            axes.scatter(x, y, color=colour, marker=marker, s=14, alpha=0.35, linewidths=0)
            at = (x.mean(), y.mean())
            axes.errorbar(*at, _spread(y), _spread(x), marker, color=colour, ms=8, capsize=3, label=name)
            if joined:
                axes.annotate(name, at, (7, 7), textcoords="offset points", parse_math=False)
        if not joined:
            _legend(axes, len(points))
        return finished(page, alt)


def _axes(page: Sheet, xlabel: str, ylabel: str, title: str | None) -> Axes:
    page.set_layout_engine("constrained", w_pad=8 / 72, h_pad=8 / 72)
    axes = page.add_subplot()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_title(title or "", loc="left", fontsize=13)
    axes.grid(color="#d8dee4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _legend(axes: Axes, count: int) -> None:
    """Several names stand right of the chart, where they hide nothing; one alone in a corner of it."""
    if count == 1:
        axes.legend(frameon=False)
    else:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _look(index: int) -> tuple[str, str, str]:
    return COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)]


def _spread(values: NDArray[Any]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _numbers(name: str, values: Any, length: int | None = None) -> NDArray[Any]:
    found = np.asarray(values, dtype=float)
    if found.ndim != 1 or len(found) == 0 or not np.isfinite(found).all():
        raise ValueError(f"{name}: a row of finite numbers is needed, got shape {list(found.shape)}")
    if length is not None and len(found) != length:
        raise ValueError(f"{name}: {len(found)} numbers where {length} are needed")
    return found
