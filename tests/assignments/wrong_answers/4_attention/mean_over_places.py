"""The mean over the places, which asks for a word everywhere."""

import torch

CHECK = "neglect_peak"
SAYS = "not the mean"


def neglect(maps, positions, smooth):
    heard = torch.stack([smooth(maps[..., position]).mean((1, 2)) for position in positions])
    return (1 - heard).amax(0)
