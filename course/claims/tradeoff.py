"""Two methods with a knob each, compared at equal faithfulness: points against a line."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

from course.claims.claim import Measured

STRENGTHS = (0.2, 0.4, 0.6, 0.8)  # of SDEdit, whose line the others are held against
RULE_TEXT = (
    "more edits succeed than with SDEdit where that keeps as much: on the line through its means at four "
    "strengths, level beyond its ends."
)


def measures(method: str, knobs: Sequence[float]) -> tuple[str, ...]:
    """The settings that `above_sdedit` reads."""
    settings = (*(f"{method} {knob}" for knob in knobs), *(f"SDEdit {s}" for s in STRENGTHS))
    return tuple(f"{what}, {setting}" for what in ("kept PSNR", "edit success") for setting in settings)


def above_sdedit(measured: Measured, method: str, knobs: Sequence[float]) -> bool:
    """Whether the method's mean success over its knobs is above SDEdit's at the same kept PSNR."""
    mean = {name: fmean(values) for name, values in measured.items()}

    def points(method: str, knobs: Sequence[float]) -> list[tuple[float, float]]:
        return [(mean[f"kept PSNR, {method} {k}"], mean[f"edit success, {method} {k}"]) for k in knobs]

    ours, sdedit = points(method, knobs), points("SDEdit", STRENGTHS)
    return fmean(success for _, success in ours) > fmean(_on_the_line(sdedit, kept) for kept, _ in ours)


def _on_the_line(points: list[tuple[float, float]], x: float) -> float:
    """The height at x of the line through the points; level beyond its ends."""
    points = sorted(points)
    for (left, low), (right, high) in pairwise(points):
        if left <= x <= right:
            return high if left == right else low + (high - low) * (x - left) / (right - left)
    return points[0][1] if x < points[0][0] else points[-1][1]
