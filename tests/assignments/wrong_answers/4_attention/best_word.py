"""The least of the losses: that of the word that is heard best."""

import torch

CHECK = "neglect_worst"
SAYS = "heard best"


def neglect(maps, positions, smooth):
    peaks = torch.stack([smooth(maps[..., position]).amax((1, 2)) for position in positions])
    return (1 - peaks).amin(0)
