"""Only the distance of the noiseless edit, without the spread that the noise brings."""

import torch

CHECK = "distance_noise"
SAYS = "not 0\\.0000: the variance that the noise brings counts"


def expected_distance(edit, guide):
    return float(((edit(torch.zeros_like(guide)) - guide) ** 2).mean())
