"""The pair put back at the level that the step came from, as diffusers does."""

from itertools import pairwise

from course.core.sampling import blend
from course.core.schedule import CLEAN

CHECK = "edit_levels"
SAYS = "one step too noisy"


def edit_in_pairs(up, down, x_0, mask, times):
    pairs = {CLEAN: (x_0, x_0)}
    for t, s in pairwise(reversed(times)):
        pairs[s] = up(*pairs[t], t, s)
    x, y = pairs[times[0]]
    for t, s in pairwise(times):
        x, y = down(x, y, t, s)
        x, y = blend(x, pairs[t][0], mask), blend(y, pairs[t][1], mask)
    return x
