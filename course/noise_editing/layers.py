"""The layers of a network that can be sparse, what each gave for the original, and how one is replaced.

A hook would come too late: it sees what a layer has computed already. So each layer gets another `forward`
for as long as a block runs. Its weights, its name and the hooks on it stay, and so do diffusers' own blocks.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from course.noise_editing.active import Size

Forward = Callable[..., Tensor]


@dataclass(eq=False)
class Cache:
    """What the layers of a network gave for the original, by time and by name. `cached` fills it."""

    network: nn.Module
    steps: dict[int | None, dict[str, Tensor]] = field(default_factory=dict)
    shapes: dict[int | None, torch.Size] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """The memory it holds, all times together."""
        return sum(each.nbytes for step in self.steps.values() for each in step.values())


@contextmanager
def cached(network: nn.Module, smallest: int = 0) -> Iterator[Cache]:
    """A cache that fills with what every layer gives while the original runs in the block, once at each time.

    network: any UNet2DConditionModel, or another network of convolutions, such as a VAE's decoder.
    smallest: side of the smallest maps to keep; layers on smaller ones then run dense (below 64 in the
    authors' pixel models; in Stable Diffusion only the middle block).
    It takes the memory of all these maps, at each step: 0.8 GB for a guided step of Stable Diffusion 1.5 in
    float32. Where that is too much, take original and edit through each step in blocks of its own, as the
    authors do.
    Raises ValueError for a time that was cached already, for rows at different times, and fused attention.
    """
    cache = Cache(network)
    with replacing(network, _Full(cache, smallest)):
        yield cache


class Run(Protocol):
    """What stands in for the layers' forward, by the kind of layer."""

    size: Size  # of the map whose cells are tokens now

    def begin(self, x: Tensor, t: int | None) -> None:
        """A call of the network starts."""

    def end(self) -> None:
        """It has succeeded."""


class _Full:
    """Every layer computes all, and what it gives is kept."""

    def __init__(self, cache: Cache, smallest: int) -> None:
        self.cache, self.smallest = cache, smallest
        self.size: Size = (0, 0)

    def begin(self, x: Tensor, t: int | None) -> None:
        if t in self.cache.steps:
            raise ValueError(
                f"time {t} was cached already: a walk may visit each time once, so repeats must be 1, and "
                "another original needs a block of its own"
            )
        self.t, self.shape = t, x.shape
        self.step: dict[str, Tensor] = {}

    def end(self) -> None:
        self.cache.steps[self.t], self.cache.shapes[self.t] = self.step, self.shape

    def conv(self, name: str, layer: nn.Conv2d, forward: Forward, x: Tensor) -> Tensor:
        out = forward(x)
        self._keep(name, out, (out.shape[2], out.shape[3]))
        return out

    def norm(self, name: str, layer: nn.GroupNorm, forward: Forward, x: Tensor) -> Tensor:
        """Of the map's statistics is kept what they make of a channel: a factor and an offset, [2 b c]."""
        if x.ndim == 4:
            groups = x.unflatten(1, (layer.num_groups, -1)).float()
            variance, mean = torch.var_mean(groups, (2, 3, 4), correction=0)
            each = x.shape[1] // layer.num_groups
            scale = (variance + layer.eps).rsqrt().repeat_interleave(each, 1)
            offset = -mean.repeat_interleave(each, 1) * scale
            if layer.affine:
                scale, offset = scale * layer.weight, offset * layer.weight + layer.bias
            self._keep(name, torch.stack([scale, offset]).to(x.dtype), (x.shape[2], x.shape[3]))
        return forward(x)

    def tokens(
        self, name: str, layer: nn.Module, forward: Forward, x: Tensor, *args: Any, **options: Any
    ) -> Tensor:
        out = forward(x, *args, **options)
        self._keep(name, out, self.size)
        return out

    keys = tokens

    def _keep(self, name: str, out: Tensor, size: Size) -> None:
        if min(size) >= self.smallest:
            self.step[name] = out.detach()


@contextmanager
def replacing(network: nn.Module, run: Run) -> Iterator[None]:
    """Within the block, the run's methods stand in for the layers' forward."""

    def begin(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        run.begin(args[0] if args else kwargs["sample"], _time(args, kwargs))

    def enter(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        run.size = (args[0].shape[2], args[0].shape[3])

    with ExitStack() as undo:
        undo.callback(network.register_forward_pre_hook(begin, with_kwargs=True).remove)
        undo.callback(network.register_forward_hook(lambda *_: run.end()).remove)
        for name, layer, kind in _layers(network):
            if kind == "enter":
                undo.callback(layer.register_forward_pre_hook(enter).remove)
                continue
            undo.callback(_restore, layer, vars(layer).get("forward"))
            vars(layer)["forward"] = partial(getattr(run, kind), name, layer, layer.forward)
        yield


def _restore(layer: nn.Module, forward: Forward | None) -> None:
    vars(layer).pop("forward", None)
    if forward is not None:
        vars(layer)["forward"] = forward


def _layers(network: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """The layers that can be sparse, found by their types: name, layer, kind."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.padding_mode == "zeros" and module.padding != "same" and module.groups == 1:
                yield name, module, "conv"
        elif isinstance(module, nn.GroupNorm):
            yield name, module, "norm"
        elif isinstance(module, Transformer2DModel):
            yield name, module, "enter"
            yield from _token_layers(name, module)


def _token_layers(place: str, transformer: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    for name, child in transformer.named_children():
        if isinstance(child, nn.Linear):
            yield f"{place}.{name}", child, "tokens"
    for name, block in transformer.named_modules():
        # GLIGEN's blocks, which have a fuser, attend to more than the picture's tokens: they stay dense.
        if isinstance(block, BasicTransformerBlock) and not hasattr(block, "fuser"):
            yield f"{place}.{name}", block, "tokens"
            for part, attention in block.named_children():
                if isinstance(attention, Attention) and not attention.is_cross_attention:
                    if attention.fused_projections:
                        raise ValueError("fused attention cannot be split: call unfuse_qkv_projections()")
                    yield f"{place}.{name}.{part}.to_k", attention.to_k, "keys"
                    yield f"{place}.{name}.{part}.to_v", attention.to_v, "keys"


def _time(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """The call's timestep; None where the network takes none."""
    timestep = kwargs["timestep"] if "timestep" in kwargs else args[1] if len(args) > 1 else None
    if timestep is None:
        return None
    times = torch.as_tensor(timestep).flatten()
    if (times != times[0]).any():
        raise ValueError(f"the rows must be at one time, not at {times.tolist()}")
    return int(times[0])
