"""The network asked about the level where the step ends."""

from itertools import pairwise

CHECK = "remainder_step"
SAYS = "where the step starts"


def remainders(denoise, levels, times, mean):
    steps = zip(pairwise(levels), pairwise(times), strict=True)
    return [x_s - mean(x_t, denoise(x_s, t), t, s) for (x_t, x_s), (t, s) in steps]
