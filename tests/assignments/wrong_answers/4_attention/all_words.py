"""All words of the prompt, its articles included."""

import torch

CHECK = "neglect_worst"
SAYS = "at the given positions"


def neglect(maps, positions, smooth):
    peaks = torch.stack([smooth(each).amax((1, 2)) for each in maps.unbind(-1)])
    return (1 - peaks).amax(0)
