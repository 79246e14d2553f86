"""The worst word of the worst picture."""

import torch

CHECK = "neglect_worst"
SAYS = "not one for all"


def neglect(maps, positions, smooth):
    peaks = torch.stack([smooth(maps[..., position]).amax((1, 2)) for position in positions])
    return (1 - peaks).max()[None]
