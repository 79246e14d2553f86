"""The size comes back without its sign."""

import torch

CHECK = "threshold_soft"
SAYS = "keeps its sign"


def soft_threshold(difference, share):
    size = difference.abs()
    least = torch.quantile(size.flatten(1), share, dim=1)[:, None, None, None]
    return (size - least).clamp(min=0)
