"""Only the first copy put back: the second leaks into what should stay."""

from itertools import pairwise

from course.core.sampling import blend
from course.core.schedule import CLEAN

CHECK = "edit_levels"
SAYS = "only x was put back"


def edit_in_pairs(up, down, x_0, mask, times):
    pairs = {CLEAN: (x_0, x_0)}
    for t, s in pairwise(reversed(times)):
        pairs[s] = up(*pairs[t], t, s)
    x, y = pairs[times[0]]
    for t, s in pairwise(times):
        x, y = down(x, y, t, s)
        x = blend(x, pairs[s][0], mask)
    return x
