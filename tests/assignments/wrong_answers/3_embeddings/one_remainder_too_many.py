"""A remainder of zero for a step beyond the last."""

from itertools import pairwise

CHECK = "remainder_asked"
SAYS = "one remainder for each step"


def remainders(denoise, levels, times, mean):
    steps = zip(pairwise(levels), pairwise(times), strict=True)
    found = [x_s - mean(x_t, denoise(x_t, t), t, s) for (x_t, x_s), (t, s) in steps]
    return [*found, 0 * levels[-1]]
