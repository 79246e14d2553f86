"""Each step starts from the level of the picture again."""

from itertools import pairwise

CHECK = "edit_walk"
SAYS = "the walk has reached"


def edited(target, levels, added, times, mean, skip):
    for k, (t, s) in enumerate(pairwise(times)):
        if k >= skip:
            x = mean(levels[k], target(levels[k], t), t, s) + added[k]
    return x
