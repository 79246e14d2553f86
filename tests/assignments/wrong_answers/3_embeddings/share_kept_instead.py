"""The share taken for what stays, in place of what becomes nothing."""

import torch

CHECK = "threshold_small"
SAYS = "three quarters that are smallest"


def soft_threshold(difference, share):
    size = difference.abs()
    least = torch.quantile(size.flatten(1), 1 - share, dim=1)[:, None, None, None]
    return difference.sign() * (size - least).clamp(min=0)
