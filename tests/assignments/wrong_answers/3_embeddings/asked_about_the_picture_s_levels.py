"""The target asked about the levels of the picture, not about its own walk."""

from itertools import pairwise

CHECK = "edit_walk"
SAYS = "the walk has reached"


def edited(target, levels, added, times, mean, skip):
    x = levels[skip]
    for k, (t, s) in enumerate(pairwise(times)):
        if k >= skip:
            x = mean(x, target(levels[k], t), t, s) + added[k]
    return x
