"""A canvas on which the reader paints strokes or a mask."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import anywidget
import numpy as np
import torch
import traitlets
from numpy.typing import NDArray

from course.figures import Figure, bundle, grid, require_alt, to_pixels
from course.figures.figure import Bundle
from course.widgets.strokes import PALETTE, Stroke, hex_colour, painted, rgb

MASKED = np.array([214, 39, 140])  # as painter.js shows a mask


class StrokePainter(anywidget.AnyWidget):
    """A canvas of `size` x `size` pixels, shown enlarged, with palette, brush, eraser, fill, undo and clear.

    mode: "paint" paints a picture, on one colour or on `picture`; "mask" marks what may change of `picture`.
    Mouse, pen, finger and keyboard paint; `paint` does it without any of them, with the same pixels.
    Raises ValueError for an unknown mode or colour and for a picture of another size.
    """

    _esm = Path(__file__).with_name("painter.js").read_text("utf8")

    size = traitlets.Int(64, read_only=True).tag(sync=True)
    factor = traitlets.Int(6).tag(sync=True)
    mode = traitlets.Unicode("paint").tag(sync=True)
    alt = traitlets.Unicode("A canvas to paint on").tag(sync=True)
    palette = traitlets.Dict().tag(sync=True)
    colour = traitlets.Unicode().tag(sync=True)
    brush = traitlets.Int(8).tag(sync=True)
    base = traitlets.Bytes().tag(sync=True)
    strokes: "traitlets.List[dict[str, Any]]" = traitlets.List().tag(sync=True)

    def __init__(
        self,
        size: int = 64,
        *,
        background: str = "white",
        picture: Any = None,
        mode: Literal["paint", "mask"] = "paint",
        palette: Mapping[str, str] = PALETTE,
        alt: str = "A canvas to paint on",
        factor: int = 6,
    ) -> None:
        if mode not in ("paint", "mask"):
            raise ValueError(f'mode is "paint" or "mask", got {mode!r}')
        if size < 1:
            raise ValueError(f"a canvas has at least 1 pixel, got size={size}")
        colours = {name: hex_colour(value, {}) for name, value in palette.items()}
        plain = np.full((size, size, 3), rgb(hex_colour(background, colours)), np.uint8)
        start = plain if picture is None else to_pixels(picture)[0]
        if start.shape != plain.shape:
            raise ValueError(
                f"the picture is {start.shape[1]}x{start.shape[0]}, the canvas {size}x{size}: resize"
            )
        self.set_trait("size", size)
        first = colours.get("red") or next(iter(colours.values()), "#000000")
        about = {"palette": colours, "colour": first, "alt": require_alt(alt), "factor": factor}
        super().__init__(mode=mode, base=start.tobytes(), **about)

    def paint(self, strokes: Iterable[Stroke]) -> None:
        """Replace all strokes; the browser follows. In a mask any colour but ERASER marks."""
        self.strokes = [stroke.as_message(self.palette) for stroke in strokes]

    def clear(self) -> None:
        """Take all strokes away."""
        self.strokes = []

    def on_change(self, act: Callable[["StrokePainter"], None]) -> None:
        """Call `act(painter)` after each finished stroke, undo, fill and clear, and after `paint`."""
        self.observe(lambda change: act(self), "strokes")

    @property
    def image(self) -> torch.Tensor:
        """[1 3 size size] in [-1, 1]: the painting; in mask mode the picture under the mask."""
        pixels = self._base() if self.mode == "mask" else painted(self.strokes, self._base())[0]
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1

    @property
    def mask(self) -> torch.Tensor:
        """[1 1 size size], 1 where a stroke is."""
        return torch.from_numpy(painted(self.strokes, self._base())[1])[None, None].float()

    def shown(self) -> NDArray[np.uint8]:
        """[size size 3] as the canvas shows it, a mask laid over its picture."""
        picture, touched = painted(self.strokes, self._base())
        if self.mode == "paint":
            return picture
        base = self._base()
        return np.where(touched[..., None], (base.astype(int) + MASKED) // 2, base).astype(np.uint8)

    def sheet(self) -> Figure:
        """The canvas as a still picture."""
        return grid([self.shown()], alt=self.alt)

    def _base(self) -> NDArray[np.uint8]:
        return np.frombuffer(self.base, np.uint8).reshape(self.size, self.size, 3)

    def _repr_mimebundle_(self, **kwargs: Any) -> Bundle:
        return with_still(super()._repr_mimebundle_(**kwargs), self.sheet())


def with_still(widget: Any, still: Figure) -> Bundle:
    """A widget's own display data, and a still picture for where no kernel runs."""
    data = widget[0] if isinstance(widget, tuple) else widget
    return bundle({**(data or {}), "text/plain": f"Live control: {still.alt}"}, still)
