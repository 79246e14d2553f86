"""The cut taken for a share of the pixels."""

import torch

CHECK = "mask_cut"
SAYS = "not a share of pixels"


def cut_mask(heat, cut):
    return (heat > torch.quantile(heat, cut, dim=1, keepdim=True)).to(heat)
