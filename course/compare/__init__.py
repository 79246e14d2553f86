"""One frame for every editor: the same edits, the same measures, the same count of calls."""

from course.compare.editor import PAPERS, STICKERS, Editor, Given, Settings
from course.compare.editors import EDITORS
from course.compare.measure import KINDS, Case, Found, given_by, sticker_cases
from course.compare.results import PUBLISHED, Results, read_results

__all__ = [
    "EDITORS",
    "KINDS",
    "PAPERS",
    "PUBLISHED",
    "STICKERS",
    "Case",
    "Editor",
    "Found",
    "Given",
    "Results",
    "Settings",
    "given_by",
    "read_results",
    "sticker_cases",
]
