"""What stays is left as it is: a hard threshold."""

import torch

CHECK = "threshold_soft"
SAYS = "soft, not hard"


def soft_threshold(difference, share):
    size = difference.abs()
    least = torch.quantile(size.flatten(1), share, dim=1)[:, None, None, None]
    return difference * (size > least)
