"""Started at the noisiest level, whatever is skipped."""

from itertools import pairwise

CHECK = "edit_back"
SAYS = "start at levels"


def edited(target, levels, added, times, mean, skip):
    x = levels[0]
    for k, (t, s) in enumerate(pairwise(times)):
        if k >= skip:
            x = mean(x, target(x, t), t, s) + added[k]
    return x
