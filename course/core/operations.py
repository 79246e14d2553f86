"""Count the multiply-adds of whatever runs, from the shapes of its products."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


class Operations(TorchDispatchMode):
    """Within `with Operations() as work:` every product of tensors is counted; nothing else changes.

    work.total is the number of multiply-adds. Its parts are `convolutions`, `linear` (products with matrices
    of weights) and `attention` (products of batches: queries with keys, probabilities with values). What is
    added, scaled or exponentiated number by number is left out, as is usual.
    On the device "meta" a module is counted without being computed. FlopCounterMode of torch, which counts
    two for each multiply-add, knows no parts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = self.linear = self.attention = 0

    @property
    def total(self) -> int:
        """All multiply-adds so far."""
        return self.convolutions + self.linear + self.attention

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kind, count = _known(func)
        if count is None and func is not torch.ops.prim.device.default:
            # In inference mode composite operations arrive whole.
            with self:
                parts = func.decompose(*args, **(kwargs or {}))
                if parts is not NotImplemented:
                    return parts
        out = func(*args, **(kwargs or {}))
        if count is not None:
            setattr(self, kind, getattr(self, kind) + count(args, out))
        return out


Count = Callable[[Sequence[Any], Any], int]


def _known(func: Any) -> tuple[str, Count | None]:
    """The part of the total that an operation belongs to, and how it is counted; None without products."""
    packet = func.overloadpacket if isinstance(func, torch._ops.OpOverload) else func
    if packet is aten.convolution:
        return "convolutions", _convolution
    if packet in (aten.mm, aten.bmm):
        kind = "linear" if packet is aten.mm else "attention"
        return kind, lambda args, out: out.numel() * args[0].shape[-1]
    if packet in (aten.addmm, aten.baddbmm):
        kind = "linear" if packet is aten.addmm else "attention"
        return kind, lambda args, out: out.numel() * args[1].shape[-1]
    if str(packet).startswith("aten._scaled_dot_product"):
        return "attention", _attention
    return "", None


def _convolution(args: Sequence[Any], out: Tensor) -> int:
    # weight [out in/groups kernel]; of a transposed one [in out/groups kernel], read from its input's side
    transposed = args[6]
    return (args[0] if transposed else out).numel() * prod(args[1].shape[1:])


def _attention(args: Sequence[Any], out: Any) -> int:
    query, key, value = args[:3]
    rows = query.numel() // query.shape[-1]
    return rows * key.shape[-2] * (query.shape[-1] + value.shape[-1])
