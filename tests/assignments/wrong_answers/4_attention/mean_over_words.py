"""The mean over the words, in which a forgotten one hides."""

import torch

CHECK = "neglect_worst"
SAYS = "mean or the sum over the words"


def neglect(maps, positions, smooth):
    peaks = torch.stack([smooth(maps[..., position]).amax((1, 2)) for position in positions])
    return (1 - peaks).mean(0)
