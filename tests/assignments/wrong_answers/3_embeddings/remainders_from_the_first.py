"""The remainders taken from the first on, though steps were skipped."""

from itertools import pairwise

CHECK = "edit_back"
SAYS = "with the remainder number 4"


def edited(target, levels, added, times, mean, skip):
    x = levels[skip]
    for k, (t, s) in enumerate(pairwise(times[skip:])):
        x = mean(x, target(x, t), t, s) + added[k]
    return x
