"""Solutions of the exercises of notebooks/0_start/2_latents.ipynb."""

import torch


def between(a, b, share):
    cosine = (a * b).sum() / (a.norm() * b.norm())
    angle = torch.arccos(cosine)
    return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)


def scaling_factor(means, log_variances):
    # The variance of a draw: that of the means, and the mean of each draw's own.
    return (1 / (means.var() + log_variances.exp().mean()).sqrt()).item()
