"""A function under sliders, and an edit beside the canvas it edits."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets

from course.figures import Figure, grid, to_pixels
from course.figures.layout import LARGEST, MARGIN
from course.widgets.live import Input, LiveView
from course.widgets.painter import StrokePainter


def slider_view(function: Callable[..., Any], /, *, alt: str | None = None, **sliders: Any) -> LiveView:
    """The picture `function(**values)` under one control for each argument.

    sliders: (min, max, step) or (min, max, step, start) is a slider, starting in the middle; a list a choice;
    True or False a box to tick; a string a line of text; an ipywidgets control is used as it is.
    alt: may be left out when the function returns a Figure. Raises ValueError for any other control.
    """
    if not sliders:
        raise ValueError("there is nothing to change: pass name=(min, max, step) for each argument")
    return LiveView(function, {name: _input(control(name, spec)) for name, spec in sliders.items()}, alt)


class StrengthSlider(LiveView):
    """The picture `edit(strength)` under a slider of the strength, in (0, 1]."""

    def __init__(self, edit: Callable[[float], Any], *, alt: str | None = None, start: float = 0.6) -> None:
        slider = control("strength", (0.05, 1.0, 0.05, start))
        super().__init__(lambda strength: edit(strength), {"strength": _input(slider)}, alt)


class PaintView(LiveView):
    """A canvas and, beside it, the picture that an edit makes of it."""

    def __init__(
        self, painter: StrokePainter, edit: Callable[..., Any], alt: str, sliders: dict[str, Any]
    ) -> None:
        def read() -> Any:
            return painter.mask if painter.mode == "mask" else painter.image

        def edited(painting: Any, **values: Any) -> Any:
            return edit(painting, **values)

        canvas = Input(painter, "strokes", read, lambda: json.dumps(painter.strokes), named=False)
        self.painter = painter
        inputs = {name: _input(control(name, spec)) for name, spec in sliders.items()}
        super().__init__(edited, {"painting": canvas, **inputs}, alt, beside=True)

    def _width(self, figure: Figure) -> int:
        """One edited picture is shown as large as the canvas."""
        edge = self.painter.size * self.painter.factor
        single = figure.width == LARGEST + 2 * MARGIN
        return round(figure.width * edge / LARGEST) if single else figure.width

    def sheet(self) -> Figure:
        """Canvas and edit beside each other."""
        pictures = to_pixels(self.result)
        titles = ["painted", *["edited"] * len(pictures)]
        return grid([self.painter.shown(), *pictures], titles=titles, alt=super().sheet().alt)


def paint_and_edit(
    painter: StrokePainter, edit: Callable[..., Any], /, *, alt: str, **sliders: Any
) -> PaintView:
    """The painter with `edit(painting, **values)` beside it, made anew after each stroke.

    painting: `painter.image`, or in mask mode `painter.mask`. sliders: as in `slider_view`.
    """
    return PaintView(painter, edit, alt, sliders)


def control(name: str, spec: Any) -> ipywidgets.DOMWidget:
    """The control that `spec` describes (see `slider_view`)."""
    if isinstance(spec, ipywidgets.DOMWidget):
        return spec
    about = {"description": name.replace("_", " "), "style": {"description_width": "initial"}}
    if isinstance(spec, bool):
        return ipywidgets.Checkbox(spec, indent=False, **about)
    if isinstance(spec, str):
        return ipywidgets.Text(spec, continuous_update=False, layout={"width": "480px"}, **about)
    if isinstance(spec, tuple) and len(spec) in (3, 4):
        return _slider(name, spec, about)
    if isinstance(spec, list) and spec:
        return ipywidgets.Dropdown(options=spec, value=spec[0], **about)
    raise ValueError(
        f"{name}: (min, max, step[, start]), a list, a bool, a string or a control, got {spec!r}"
    )


def _slider(name: str, spec: Sequence[float], about: dict[str, Any]) -> ipywidgets.DOMWidget:
    low, high, step = spec[:3]
    if not (low < high and 0 < step <= high - low):
        raise ValueError(f"{name}: a slider needs min < max and a step between 0 and max - min, got {spec}")
    start = spec[3] if len(spec) == 4 else low + round((high - low) / 2 / step) * step
    if not low <= start <= high:
        raise ValueError(f"{name}: the start {start} is outside {low} to {high}")
    whole = all(isinstance(each, int) for each in spec)
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    size = {"layout": {"width": "480px"}, "continuous_update": False}
    return kind(value=start, min=low, max=high, step=step, **size, **about)


def _input(widget: ipywidgets.DOMWidget) -> Input:
    def value() -> Any:
        return round(widget.value, 10) if isinstance(widget.value, float) else widget.value

    return Input(widget, "value", value, lambda: repr(value()))
