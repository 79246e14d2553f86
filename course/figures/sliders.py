"""Sliders without kernel or network: HTML that works in JupyterLab, on the site and from a file."""

from collections.abc import Sequence
from html import escape
from typing import Any

from course.figures.figure import PAGE_WIDTH, Bundle, Figure, bundle, require_alt
from course.figures.layout import LARGEST
from course.figures.pictures import filmstrip, grid
from course.figures.pixels import Pixels, data_url, side_by_side, to_pixels

_FIGURE = '<figure class="{name}" style="margin:0.5em 0;width:{width}px;max-width:100%">{inside}</figure>'
_PICTURE = "display:block;width:100%;image-rendering:pixelated"
_OVER = "position:absolute;top:0;left:0;clip-path:inset(0 0 0 50%)"
_LINE = "position:absolute;top:0;bottom:0;left:50%;width:2px;margin-left:-1px;background:#fff"
_APART = "display:flex;justify-content:space-between"
# JupyterLab takes the arrow keys for itself unless the focused element says otherwise.
_RANGE = (
    '<input type="range" data-lm-suppress-shortcuts="true" min="0" max="{top}" step="1" value="{value}" '
    'aria-label="{label}" '
    'aria-valuetext="{text}" oninput="{action}" style="width:100%;margin:0.5em 0 0">'
)
_SHOW_FRAME = (
    "const f=this.closest('figure'),s=f.querySelectorAll('img');"
    "s.forEach((p,i)=>{p.hidden=i!=this.value;p.style.display=p.hidden?'none':'block'});"
    "const t=s[this.value].dataset.label;f.querySelector('output').textContent=t;"
    "this.setAttribute('aria-valuetext',t)"
)
_UNCOVER = (
    "const f=this.closest('figure');"
    "f.querySelectorAll('img')[1].style.clipPath='inset(0 0 0 '+this.value+'%)';"
    "f.querySelector('span').style.left=this.value+'%';this.setAttribute('aria-valuetext',this.value+' %')"
)


class FrameSlider:
    """Frames under a slider, the arrow keys move it; where no HTML is shown, all frames on one sheet.

    frames: one picture, or one batch shown side by side, for each label.
    Raises ValueError for an empty `alt`, fewer than two frames, and when frames and labels differ in number.
    """

    def __init__(self, frames: Sequence[Any], labels: Sequence[str], *, alt: str, start: int = 0) -> None:
        self.alt = require_alt(alt)
        self.frames = [side_by_side(to_pixels(frame)) for frame in frames]
        self.labels = [str(label) for label in labels]
        if len(self.frames) < 2 or len(self.labels) != len(self.frames):
            raise ValueError(
                f"{len(self.frames)} frames, {len(self.labels)} labels: at least two, a label for each"
            )
        if not 0 <= start < len(self.frames):
            raise ValueError(f"start is a frame's number, 0 to {len(self.frames) - 1}, got {start}")
        self.start = start

    def html(self) -> str:
        """The slider with all its frames inside."""
        pictures = "".join(self._picture(index) for index in range(len(self.frames)))
        label = escape(self.labels[self.start])
        about = {"label": escape(self.alt), "text": label, "action": _SHOW_FRAME}
        slider = _RANGE.format(top=len(self.frames) - 1, value=self.start, **about)
        inside = f"{pictures}{slider}<output>{label}</output>"
        return _FIGURE.format(name="frame-slider", width=_shown_width(self.frames[0]), inside=inside)

    def _picture(self, index: int) -> str:
        label, hidden = escape(self.labels[index]), index != self.start
        style = _PICTURE.replace("block", "none") if hidden else _PICTURE
        about = f'alt="{escape(self.alt)}: {label}" data-label="{label}" style="{style}"'
        return f'<img src="{data_url(self.frames[index])}" {about}{" hidden" if hidden else ""}>'

    def sheet(self) -> Figure:
        """All frames on one sheet."""
        columns = 1 if _is_row(self.frames[0]) else None
        return filmstrip(self.frames, self.labels, alt=self.alt, columns=columns)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Bundle:
        return bundle({"text/plain": f"FrameSlider: {self.alt}", "text/html": self.html()}, self.sheet())


class BeforeAfter:
    """Two pictures of one size on top of each other; a slider uncovers the second.

    Raises ValueError for an empty `alt` and for pictures of unlike size.
    """

    def __init__(
        self, before: Any, after: Any, *, alt: str, labels: tuple[str, str] = ("before", "after")
    ) -> None:
        self.alt, self.labels = require_alt(alt), labels
        self.before, self.after = to_pixels(before)[0], to_pixels(after)[0]
        if self.before.shape != self.after.shape:
            sizes = f"{self.before.shape[:2]} and {self.after.shape[:2]}"
            raise ValueError(f"two pictures on top of each other need one size, got {sizes}: resize one")

    def html(self) -> str:
        """Both pictures and the slider."""
        alt, (left, right) = escape(self.alt), map(escape, self.labels)
        about = {"label": f"share of {left}: {alt}", "text": "50 %", "action": _UNCOVER}
        inside = (
            '<div style="position:relative">'
            f'<img src="{data_url(self.before)}" alt="{alt}: {left}" style="{_PICTURE}">'
            f'<img src="{data_url(self.after)}" alt="{alt}: {right}" style="{_PICTURE};{_OVER}">'
            f'<span style="{_LINE}"></span></div>{_RANGE.format(top=100, value=50, **about)}'
            f'<div style="{_APART}"><span>{left}</span><span>{right}</span></div>'
        )
        return _FIGURE.format(name="before-after", width=_shown_width(self.before), inside=inside)

    def sheet(self) -> Figure:
        """Both pictures beside each other."""
        return grid([self.before, self.after], titles=self.labels, alt=self.alt)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Bundle:
        return bundle({"text/plain": f"BeforeAfter: {self.alt}", "text/html": self.html()}, self.sheet())


def _shown_width(pixels: Pixels) -> int:
    """Page pixels: the largest whole multiple up to LARGEST for one picture, up to the page for a row."""
    width = pixels.shape[1]
    return max((PAGE_WIDTH if _is_row(pixels) else LARGEST) // width, 1) * width


def _is_row(pixels: Pixels) -> bool:
    return pixels.shape[1] > 1.5 * pixels.shape[0]
