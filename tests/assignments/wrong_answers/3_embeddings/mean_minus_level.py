"""Mean minus level, which leads the other way."""

from itertools import pairwise

CHECK = "remainder_step"
SAYS = "level minus mean"


def remainders(denoise, levels, times, mean):
    steps = zip(pairwise(levels), pairwise(times), strict=True)
    return [mean(x_t, denoise(x_t, t), t, s) - x_s for (x_t, x_s), (t, s) in steps]
