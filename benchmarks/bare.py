"""What would make one guided U-Net call faster? Each idea beside the plain call, with how far it is from it."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import milliseconds, race, ratio
from course.core.model import Model
from course.core.speed import fast

PLAIN = "plain call"


def measure(model: Model, prompt: str, rounds: int, compiled: bool = False) -> list[dict[str, Any]]:
    """One row for each idea: milliseconds, its time over the plain call's, and the largest difference of eps.

    compiled: try torch.compile too, which needs a C++ compiler and a minute.
    """
    ways = variants(model, prompt)
    if compiled:
        ways["torch.compile"] = _compiled(model, prompt)
    expected = ways[PLAIN]()
    times = race(ways, rounds)
    rows = [
        {
            "idea": name,
            "ms": milliseconds(times, name),
            "over_plain": ratio(times, name, PLAIN),
            "difference": float((way().float() - expected).abs().max()),
            "seconds": times[name],
        }
        for name, way in ways.items()
    ]
    return rows + _other_threads(ways[PLAIN], rounds, milliseconds(times, PLAIN))
