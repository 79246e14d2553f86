"""Pictures for the lessons. Every one takes `alt`, a text that stands for it, and displays itself."""

from course.figures.charts import curves, scatter
from course.figures.code import Source, source
from course.figures.figure import COLOURS, PAGE_WIDTH, Figure, bundle, require_alt
from course.figures.pictures import filmstrip, grid, heatmap
from course.figures.pixels import to_pixels
from course.figures.sliders import BeforeAfter, FrameSlider

__all__ = [
    "COLOURS",
    "PAGE_WIDTH",
    "BeforeAfter",
    "Figure",
    "FrameSlider",
    "Source",
    "bundle",
    "curves",
    "filmstrip",
    "grid",
    "heatmap",
    "require_alt",
    "scatter",
    "source",
    "to_pixels",
]
