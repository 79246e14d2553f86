"""Strength counted from the start of the times, so that a small strength redoes nearly everything."""

import torch

CHECK = "start_times"
SAYS = "count 3 from the end|starts at times\\[0\\]|starts at CLEAN"


def start_map(strength, times):
    steps = len(times) - 1
    return torch.tensor(times)[(strength * steps).round().long()]
