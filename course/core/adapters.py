"""Low-rank adapters that live beside a frozen model. Hu et al. 2021, arXiv:2106.09685.

    adapters = low_rank(unet, lambda name, layer: name.endswith(("to_k", "to_v")), rank=4)
    with attached(unet, adapters): ...     # the model's own weights stay as they are
    with merged(unet, adapters): ...       # the same outputs at the speed of the bare model

The paper's factor alpha / r is `scale` here, one number, which a change of rank leaves as it is.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from course.core.hooks import find

Layer = nn.Linear | nn.Conv2d


class LowRank(nn.Module):
    """scale * up(down(x)), to be added to a layer's output; zero until `up` is trained. Section 4.1, eq. 3.

    For a convolution, `down` is one with the same kernel, stride and padding into `rank` channels, `up` is
    1x1. down is drawn as nn.Linear draws, uniformly within 1 / sqrt(fan in). At least float32, whatever the
    layer is in.
    Raises ValueError for a rank below 1, a grouped convolution and other layers.
    """

    def __init__(
        self, like: Layer, rank: int, scale: float = 1.0, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, not {rank}")
        self.rank, self.scale = rank, float(scale)
        self.down: Layer
        self.up: Layer
        # Made on no device: the layers' own initialisation would draw from the global generator.
        how: dict[str, Any] = {"bias": False, "device": "meta"}
        if isinstance(like, nn.Linear):
            self.down = nn.Linear(like.in_features, rank, **how)
            self.up = nn.Linear(rank, like.out_features, **how)
        elif isinstance(like, nn.Conv2d) and like.groups == 1:
            same = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
            self.down = nn.Conv2d(like.in_channels, rank, **{k: getattr(like, k) for k in same}, **how)
            self.up = nn.Conv2d(rank, like.out_channels, 1, **how)
        else:
            raise ValueError(f"a low-rank adapter needs an nn.Linear or an ungrouped nn.Conv2d, not {like}")
        self.to_empty(device=like.weight.device)
        self.to(torch.promote_types(like.weight.dtype, torch.float32))
        self._draw(generator)

    @torch.no_grad()
    def _draw(self, generator: torch.Generator | None) -> None:
        # Drawn on the generator's device, then moved: a seed gives the same adapter on every machine.
        drawn = torch.empty(self.down.weight.shape, device=generator.device if generator else None)
        bound = 1 / math.sqrt(drawn[0].numel())
        self.down.weight.copy_(drawn.uniform_(-bound, bound, generator=generator))
        self.up.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.up(self.down(x.to(self.down.weight.dtype)))
        return self.scale * out

    def delta(self) -> Tensor:
        """What `merged` adds to the layer's weight, in that weight's shape."""
        up, down = self.up.weight.flatten(1), self.down.weight
        return self.scale * (up @ down.flatten(1)).unflatten(1, down.shape[1:])


Adapters = Mapping[str, LowRank]  # by the name of the layer that each belongs to


def low_rank(
    model: nn.Module,
    where: Callable[[str, nn.Module], bool],
    rank: int,
    scale: float = 1.0,
    *,
    generator: torch.Generator | None = None,
) -> dict[str, LowRank]:
    """A new adapter for each linear or convolution layer that `where(name, layer)` accepts, by layer name.

    Raises ValueError when it accepts none.
    """
    names = find(model, lambda name, m: isinstance(m, Layer) and where(name, m))
    return {name: LowRank(layer_of(model, name), rank, scale, generator=generator) for name in names}


@contextmanager
def attached(model: nn.Module, adapters: Adapters, strength: float = 1.0) -> Iterator[None]:
    """Within the block, `strength` times each adapter's output is added to its layer's.

    Gradients reach the adapters. Blocks nest, and several adapters of one layer add up.
    Raises ValueError when an adapter fits no layer.
    """
    with ExitStack() as undo:
        for layer, adapter in _pairs(model, adapters):

            def add(_: nn.Module, args: tuple[Tensor], out: Tensor, adapter: LowRank = adapter) -> Tensor:
                return out + (strength * adapter(args[0])).to(out.dtype)

            undo.callback(layer.register_forward_hook(add).remove)
        yield


@contextmanager
def merged(model: nn.Module, adapters: Adapters, strength: float = 1.0) -> Iterator[None]:
    """Within the block, the layers' weights have the deltas added; afterwards their bytes are as before.

    For use, not for training: no gradient reaches the adapters.
    Raises ValueError when an adapter fits no layer.
    """
    with ExitStack() as undo:
        for layer, adapter in _pairs(model, adapters):
            weight = layer.weight
            # A copy, because adding and subtracting again would leave rounding.
            undo.callback(_write, weight, weight.detach().clone())
            wide = torch.promote_types(weight.dtype, torch.float32)
            _write(weight, weight.detach().to(wide) + strength * adapter.delta())
        yield


def layer_of(model: nn.Module, name: str) -> Layer:
    """The layer that an adapter of this name belongs to. Raises ValueError when there is none."""
    try:
        layer = model.get_submodule(name)
    except AttributeError:
        raise ValueError(f"no adapter fits {name}: this {type(model).__name__} has no such layer") from None
    if not isinstance(layer, Layer):
        raise ValueError(f"no adapter fits {name}: it is a {type(layer).__name__}")
    return layer


def _pairs(model: nn.Module, adapters: Adapters) -> list[tuple[Layer, LowRank]]:
    """Each layer with its adapter; all are checked before any is touched."""
    if not adapters:
        raise ValueError("no adapters were given")
    pairs = [(layer_of(model, name), adapter) for name, adapter in adapters.items()]
    for name, (layer, adapter) in zip(adapters, pairs, strict=True):
        shape = (adapter.up.weight.shape[0], *adapter.down.weight.shape[1:])
        if tuple(layer.weight.shape) != shape:
            raise ValueError(f"the adapter of {name} is for a weight of shape {shape}; there is {layer}")
    return pairs


def _write(weight: Tensor, value: Tensor) -> None:
    with torch.no_grad():
        weight.copy_(value)
