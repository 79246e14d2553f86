"""Train weights of a frozen network for a while, and find them afterwards as they were.

with restored(unet) as weights:
    with training(weights): ...     # take steps on them
    ...                             # use the tuned network
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def training(weights: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """The weights, which take gradients within the block; afterwards they are as frozen as they were.

    No gradient is left on them. Raises ValueError for no weights, and for weights in half precision.
    """
    weights = list(weights)
    check_trainable(weights)
    frozen = [weight for weight in weights if not weight.requires_grad]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        yield weights
    finally:
        for weight in weights:
            weight.grad = None
        for weight in frozen:
            weight.requires_grad_(False)


@contextmanager
def restored(model: nn.Module) -> Iterator[list[nn.Parameter]]:
    """The model's weights, which may change within the block; afterwards their bytes are as before."""
    tensors = [*model.parameters(), *model.buffers()]
    before = [tensor.detach().clone() for tensor in tensors]
    try:
        yield list(model.parameters())
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)


def check_trainable(weights: Iterable[nn.Parameter]) -> None:
    """Raise ValueError for no weights, and for weights in half precision, where small steps are lost."""
    weights = list(weights)
    if not weights:
        raise ValueError("there is nothing to train: `weights` is empty")
    half = {weight.dtype for weight in weights if torch.finfo(weight.dtype).bits < 32}
    if half:
        raise ValueError(
            f"weights to train must be float32, got {half.pop()}, in which small steps round to nothing: "
            "load(..., dtype=torch.float32), or train adapters beside them"
        )
