"""Live controls for JupyterLab. Where no kernel runs, each is shown as a still picture."""

from course.widgets.live import LiveView
from course.widgets.painter import StrokePainter
from course.widgets.sliders import PaintView, StrengthSlider, paint_and_edit, slider_view
from course.widgets.strokes import ERASER, PALETTE, Stroke

__all__ = [
    "ERASER",
    "PALETTE",
    "LiveView",
    "PaintView",
    "StrengthSlider",
    "Stroke",
    "StrokePainter",
    "paint_and_edit",
    "slider_view",
]
