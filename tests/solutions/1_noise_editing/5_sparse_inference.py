"""Solutions of the exercises in notebooks/1_noise_editing/5_sparse_inference.ipynb."""

import torch.nn.functional as F


def one_block(layer, x, top, left, side):
    padded = F.pad(x, (1, 1, 1, 1))
    seen = padded[..., top : top + side + 2, left : left + side + 2]
    return F.conv2d(seen, layer.weight, layer.bias)


def reach(layers):
    cells, scale = 0, 1
    for kernel, stride, dilation in layers:
        cells += scale * dilation * (kernel - 1) // 2
        scale *= stride
    return cells
