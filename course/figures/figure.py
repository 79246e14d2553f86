"""What every picture of the course is when it is shown: PNG bytes, a text that stands for them, a size."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Sheet
from PIL import Image

# Lengths are page pixels, as in CSS. Each is drawn with DENSITY dots, so text stays sharp on a dense screen.
PAGE_WIDTH = 900
DENSITY = 2
PAPER, INK, QUIET = "#ffffff", "#1f2328", "#59636e"
# Okabe and Ito's palette, told apart by colour-blind readers; its yellow is left out, too pale on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")

Bundle = tuple[dict[str, Any], dict[str, Any]]


@dataclass(frozen=True)
class Figure:
    """A finished picture that displays itself; the same call gives the same bytes.

    width, height: page pixels; the PNG has more dots than that.
    """

    png: bytes
    alt: str
    width: int
    height: int

    def image(self) -> Image.Image:
        """The picture with all its dots."""
        return Image.open(io.BytesIO(self.png)).convert("RGB")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Bundle:
        return bundle({"text/plain": f"Figure: {self.alt}"}, self)

    def __repr__(self) -> str:
        return f"Figure({self.width}x{self.height}, alt={self.alt!r})"


def require_alt(alt: str) -> str:
    """`alt` on one line. Raises ValueError when it says nothing."""
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"a figure needs a text that stands for it, got alt={alt!r}: say what it shows")
    return " ".join(alt.split())


def bundle(data: dict[str, Any], picture: Figure) -> Bundle:
    """`data` and the picture's PNG, with metadata that holds `alt` at the top and under image and HTML."""
    metadata: dict[str, Any] = {"alt": picture.alt, "image/png": {"alt": picture.alt, "width": picture.width}}
    if "text/html" in data:
        metadata["text/html"] = {"alt": picture.alt}
    return {**data, "image/png": base64.b64encode(picture.png).decode("ascii")}, metadata


def png_url(png: bytes) -> str:
    """An address that holds the picture itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


@contextmanager
def sheet(width: float, height: float) -> Iterator[Sheet]:
    """An empty light sheet whose points are page pixels; no setting of the reader's changes its style."""
    ours = {"font.size": 12} | dict.fromkeys(
        ("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK
    )
    with matplotlib.style.context(["default", ours]):
        empty = Sheet(figsize=(width / 72, height / 72), dpi=72 * DENSITY, facecolor=PAPER)
        FigureCanvasAgg(empty)
        yield empty


def finished(drawn: Sheet, alt: str) -> Figure:
    """The sheet as Figure. Call it inside `sheet`, whose style holds while the bytes are made."""
    stream = io.BytesIO()
    drawn.savefig(stream, format="png", metadata={"Software": None})
    width, height = Image.open(stream).size
    return Figure(stream.getvalue(), alt, round(width / DENSITY), round(height / DENSITY))
