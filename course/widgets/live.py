"""A picture that follows its controls: sliders, or a canvas."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import ipywidgets

from course.figures import Figure, grid, require_alt
from course.figures.figure import Bundle, png_url
from course.widgets.painter import with_still

REMEMBERED = 64  # pictures kept, so that going back to a value costs nothing


@dataclass(frozen=True)
class Input:
    """One argument of the function: the control it comes from, and how to read it."""

    control: ipywidgets.DOMWidget
    trait: str
    read: Callable[[], Any]
    key: Callable[[], Hashable]  # equal keys, equal values
    named: bool = True  # its value is told in the picture's text


class LiveView(ipywidgets.VBox):
    """Controls above the picture that `function` makes of their values, made anew when one of them changes.

    function: pure; it returns pictures that `course.figures.to_pixels` reads, or a Figure.
    What it raises is shown in place of the picture, and raised.
    `result` is what it returned last, `figure` the picture shown.
    """

    def __init__(
        self, function: Callable[..., Any], inputs: Mapping[str, Input], alt: str | None, beside: bool = False
    ) -> None:
        self.function, self.inputs = function, dict(inputs)
        self.alt = None if alt is None else require_alt(alt)
        self.result: Any = None
        self.figure: Figure | None = None
        self._known: OrderedDict[Hashable, tuple[Any, Figure]] = OrderedDict()
        self._picture, self._status = ipywidgets.HTML(), ipywidgets.HTML()
        controls = ipywidgets.VBox([each.control for each in self.inputs.values()])
        picture = ipywidgets.VBox([self._picture, self._status])
        super().__init__([ipywidgets.HBox([controls, picture])] if beside else [controls, picture])
        self.update()
        for each in self.inputs.values():
            each.control.observe(self.update, each.trait)

    @property
    def values(self) -> dict[str, Any]:
        """The function's arguments as the controls stand."""
        return {name: each.read() for name, each in self.inputs.items()}

    def update(self, change: Any = None) -> None:
        """Make the picture of the controls' values, or take it from those already made."""
        key = tuple(each.key() for each in self.inputs.values())
        started = time.perf_counter()
        try:
            if key not in self._known:
                self._status.value = _note("drawing …")
                self._known[key] = self._made()
                while len(self._known) > REMEMBERED:
                    self._known.popitem(last=False)
        except Exception as error:
            self._picture.value = ""
            self._status.value = _complaint(error)
            raise
        self._known.move_to_end(key)
        self.result, self.figure = self._known[key]
        self._picture.value = _image(self.figure, self._width(self.figure))
        self._status.value = _note(f"{time.perf_counter() - started:.2f} s")

    def sheet(self) -> Figure:
        """What is shown where no kernel runs."""
        if self.figure is None:
            raise ValueError("there is no picture yet")
        return self.figure

    def _width(self, figure: Figure) -> int:
        return figure.width

    def _made(self) -> tuple[Any, Figure]:
        result = self.function(**self.values)
        if isinstance(result, Figure) and self.alt is None:
            return result, result
        if self.alt is None:
            raise ValueError("the function returns pictures: pass alt=, a text that stands for them")
        told = [f"{name} = {each.read()}" for name, each in self.inputs.items() if each.named]
        alt = f"{self.alt} ({', '.join(told)})" if told else self.alt
        if isinstance(result, Figure):
            return result, Figure(result.png, alt, result.width, result.height)
        return result, grid(result, alt=alt)

    def _repr_mimebundle_(self, **kwargs: Any) -> Bundle:
        return with_still(super()._repr_mimebundle_(**kwargs), self.sheet())


def _image(figure: Figure, width: int) -> str:
    style = "max-width:100%;height:auto;image-rendering:pixelated"
    return f'<img src="{png_url(figure.png)}" alt="{escape(figure.alt)}" width="{width}" style="{style}">'


def _note(text: str) -> str:
    return f'<span role="status" style="font-size:12px;opacity:0.75">{text}</span>'


def _complaint(error: Exception) -> str:
    text = escape(f"{type(error).__name__}: {error}")
    style = "white-space:pre-wrap;color:#b31d28;background:#fff5f5;padding:8px"
    return f'<pre role="alert" style="{style}">{text}</pre>'
