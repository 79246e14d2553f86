"""A model whose U-Net is called without Python's overhead: the same operations, recorded once for each shape.

On a small model on a CPU this takes about a third off. The results are equal to the last bit.
"""

import warnings
from collections import Counter
from dataclasses import dataclass, field, fields
from itertools import chain
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from course.core.model import Model

Shape = tuple[Any, ...]


class _Watch:
    """Tells whether the parts that decide what a call does are still those of the beginning.

    They are the modules, weights, hooks and attention processors. Asked at every call, so it must be quick.
    """

    def __init__(self, unet: nn.Module) -> None:
        names = ("_modules", "_parameters", "_forward_hooks", "_forward_pre_hooks")
        self.parts = [getattr(module, name) for module in unet.modules() for name in names]
        self.attention = [vars(module) for module in unet.modules() if "processor" in vars(module)]
        self.weights = list(unet.parameters())
        self.before = self._now()

    def changed(self) -> bool:
        now = self._now()
        return len(now) != len(self.before) or not all(map(is_, now, self.before))

    def _now(self) -> list[object]:
        processors = [attention.get("processor") for attention in self.attention]
        return [*chain.from_iterable(map(dict.values, self.parts)), *processors]


@dataclass(frozen=True, eq=False, repr=False)
class TracedModel(Model):
    """A Model whose `predict` replays a trace. Everything else is the model's, the weights included.

    A shape is traced when it has been asked `patience` times; a trace costs about as much as twenty calls.
    Attention control, hooks, adapters and gradients all work: while one is there, the U-Net itself is called.
    """

    patience: int
    _watch: _Watch
    _asked: Counter[Shape] = field(default_factory=Counter)
    _traces: dict[Shape, Any] = field(default_factory=dict)

    def predict(self, x_t: Tensor, t: int | Tensor, text: Tensor) -> Tensor:
        """As Model.predict."""
        if isinstance(t, Tensor) or not self._may_replay(x_t, text):
            return super().predict(x_t, t, text)
        shape = (x_t.shape, text.shape, x_t.dtype, text.dtype, x_t.device)
        trace = self._traces.get(shape)
        if trace is None:
            self._asked[shape] += 1
            if self._asked[shape] <= self.patience:
                return super().predict(x_t, t, text)
            trace = self._traces[shape] = _trace(self.unet, x_t, text)
        with torch.no_grad():
            output = trace(x_t, torch.tensor(t, device=x_t.device), text)
        return self.schedule.to_eps(output, x_t, t)

    def _may_replay(self, x_t: Tensor, text: Tensor) -> bool:
        """False where a gradient is wanted, or where somebody reaches into the U-Net."""
        if torch.is_grad_enabled() and any(w.requires_grad for w in (x_t, text, *self._watch.weights)):
            return False
        return not self._watch.changed()


def traced(model: Model, patience: int = 20) -> TracedModel:
    """The same model, faster on a CPU where its U-Net is small. It shares the weights.

    patience: how often a shape of input is asked for before it is traced.
    """
    if patience < 0:
        raise ValueError(f"patience must be 0 calls or more, got {patience}")
    shared = {field.name: getattr(model, field.name) for field in fields(Model)}
    return TracedModel(**shared, patience=patience, _watch=_Watch(model.unet))


class _Call(nn.Module):
    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
        return self.unet(x_t, t, encoder_hidden_states=text, return_dict=False)[0]


def _trace(unet: nn.Module, x_t: Tensor, text: Tensor) -> Any:
    """The U-Net's call as TorchScript. Not frozen, so that a weight changed in place is seen."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that shapes become constants is what we want
        call = _Call(unet).eval()
        return torch.jit.trace(call, (x_t, torch.tensor(1, device=x_t.device), text), check_trace=False)
