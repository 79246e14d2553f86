"""The network asked anew for what is known: right, and twice as dear."""

from itertools import pairwise

CHECK = "remainder_asked"
SAYS = "once for each step"


def remainders(denoise, levels, times, mean):
    found = []
    for k, (t, s) in enumerate(pairwise(times)):
        denoise(levels[k], t)
        found.append(levels[k + 1] - mean(levels[k], denoise(levels[k], t), t, s))
    return found
