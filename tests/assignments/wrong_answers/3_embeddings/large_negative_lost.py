"""The values themselves compared, so that what is large and negative counts as small."""

import torch

CHECK = "threshold_small"
SAYS = "of either sign, stays"


def soft_threshold(difference, share):
    least = torch.quantile(difference.abs().flatten(1), share, dim=1)[:, None, None, None]
    return (difference - least).clamp(min=0)
