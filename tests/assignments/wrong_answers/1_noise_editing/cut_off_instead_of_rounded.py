"""The number of steps cut off, as diffusers' int(steps * strength) does."""

import torch

CHECK = "start_rounding"
SAYS = "cut off, so round"


def start_map(strength, times):
    steps = len(times) - 1
    return torch.tensor(times)[steps - (strength * steps).long()]
