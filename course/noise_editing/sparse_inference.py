"""SIGE: after a small edit, compute again only what the edit touched, and keep the rest of every map.

with cached(unet) as cache:
    original = sdedit(denoise, source, noise, times, schedule)
with sparse_inference(unet, cache, mask):
    edited = sdedit(denoise, painted, noise, times, schedule)  # the same noise, the same times
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course.core.checks import check_option
from course.noise_editing.active import Active, Size
from course.noise_editing.layers import Cache, Forward, cached, replacing
from course.noise_editing.region import dilate

__all__ = ["cached", "difference_mask", "sparse_inference"]


def difference_mask(
    original: Float[Tensor, "b c h w"],
    edited: Float[Tensor, "b c h w"],
    epsilon: float = 0.02,
    dilation: int = 5,
) -> Float[Tensor, "1 1 h w"]:
    """1 where any channel of any row differs by more than epsilon, grown by `dilation` cells to every side.

    Li et al. 2022, arXiv:2211.02048. The defaults are the authors', for pictures. Theirs grows
    along rows and columns only, into a cross; ours into a square.
    Raises ValueError for unlike shapes, and for epsilon or dilation below 0.
    """
    if original.ndim != 4 or original.shape != edited.shape or original.numel() == 0:
        shapes = f"{list(original.shape)} and {list(edited.shape)}"
        raise ValueError(f"original and edited must have one shape [b c h w], got {shapes}")
    if not epsilon >= 0 or isinstance(dilation, bool) or not isinstance(dilation, int) or dilation < 0:
        raise ValueError(
            f"epsilon and dilation (whole cells) must be 0 or more, got {epsilon!r} and {dilation!r}"
        )
    changed = ((original - edited).abs() > epsilon).any(1, keepdim=True).any(0, keepdim=True)
    return dilate(changed.float(), dilation)


@contextmanager
def sparse_inference(
    network: nn.Module,
    cache: Cache,
    mask: Float[Tensor, "b 1 h w"],
    statistics: Literal["original", "own"] = "original",
    *,
    block: int = 4,
    margin: int = 1,
) -> Iterator[Active]:
    """What is active; within the block the network computes only that, and keeps the rest of the `cache`.

    Li et al. 2022, arXiv:2211.02048. A convolution computes the blocks of its output that see the mask: it
    gathers their inputs, halo included, and scatters what they give into the original's output. Transformer
    blocks run on the tokens of such blocks; in self-attention their queries meet the keys and values of all
    tokens, the others' being the original's. Convolutions alone are exact, if the mask is as wide as they
    spread the edit; the rest is near. The authors gather blocks for a kernel of their own. Here each cell's
    inputs are a row of one matrix product, which needs no kernel and repacks no weights.
    mask: 1 = changed, of the input's size; of several rows the union. The prompt may differ from the
    original's: it then counts inside the mask alone.
    statistics: of the group norms: the "original" picture's (the paper's), or the map's "own".
    block: cells a side of the blocks that a layer gives. margin: cells by which the mask grows on maps of
    other sizes.
    Raises ValueError for another network's cache, a mask that is of another size or not binary, an input of
    another shape or at a time that was not cached, fused attention, block below 1 and margin below 0.
    """
    check_option("statistics", statistics, ("original", "own"))
    if block < 1 or margin < 0:
        raise ValueError(f"block must be 1 cell or more and margin 0 or more, got {block} and {margin}")
    if cache.network is not network:
        raise ValueError("the cache is another network's: fill it with cached(network) of the same network")
    if mask.ndim != 4 or mask.shape[1] != 1 or not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"the mask must be [b 1 h w] of 0 and 1 (1 = changed), got {list(mask.shape)}")
    active = Active(mask, block, margin)
    with replacing(network, Sparse(cache, active, statistics)):
        yield active


class Sparse:
    """A layer whose output for the original is known computes what is active; any other computes all."""

    def __init__(self, cache: Cache, active: Active, statistics: str) -> None:
        self.cache, self.active, self.statistics = cache, active, statistics
        self.size: Size = (0, 0)

    def begin(self, x: Tensor, t: int | None) -> None:
        if t not in self.cache.steps:
            there = list(self.cache.steps)
            raise ValueError(f"time {t} was not cached, only {there}: original and edit need the same times")
        if x.shape != self.cache.shapes[t] or x.shape[2:] != self.active.size:
            raise ValueError(
                f"the input {list(x.shape)}, the original's {list(self.cache.shapes[t])} and the mask "
                f"{list(self.active.size)} must agree in rows and size: shrink_mask brings a mask to size"
            )
        self.known = self.cache.steps[t]

    def end(self) -> None: ...

    def conv(self, name: str, layer: nn.Conv2d, forward: Forward, x: Tensor) -> Tensor:
        if name not in self.known:
            return forward(x)
        original = self.known[name]
        cells = self.active.of(layer, x, (original.shape[2], original.shape[3]))
        if not len(cells):
            return original.clone()
        rows = F.linear(cells.gather(x), layer.weight.flatten(1), layer.bias)
        return cells.scatter(rows, original)

    def norm(self, name: str, layer: nn.GroupNorm, forward: Forward, x: Tensor) -> Tensor:
        if name not in self.known or self.statistics == "own":
            return forward(x)
        scale, offset = self.known[name][..., None, None]
        return torch.addcmul(offset, x, scale)

    def tokens(
        self, name: str, layer: nn.Module, forward: Forward, x: Tensor, *args: Any, **options: Any
    ) -> Tensor:
        if name not in self.known:
            return forward(x, *args, **options)
        return self._among(self.known[name], lambda places: forward(x[:, places], *args, **options))

    def keys(self, name: str, layer: nn.Module, forward: Forward, x: Tensor) -> Tensor:
        """x is the active tokens; what comes back are the keys, or the values, of all tokens."""
        return forward(x) if name not in self.known else self._among(self.known[name], lambda _: forward(x))

    def _among(self, original: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        places = self.active.tokens(self.size, original.device)
        if len(places) == original.shape[1]:
            return compute(places)
        out = original.clone()
        if len(places):
            out[:, places] = compute(places)
        return out
