"""A model whose U-Net is called without Python's overhead: the same operations, recorded once for each shape.

On a small model on a CPU this takes about a third off. The results are equal to the last bit.
"""

import warnings
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from course.core.model import Model

Shape = tuple[Any, ...]


@dataclass(frozen=True, eq=False, repr=False)
class TracedModel(Model):
    """A Model whose `predict` replays a trace. Everything else is the model's, the weights included.

    A shape is traced when it has been asked `patience` times; a trace costs about as much as twenty calls.
    Attention control, hooks, adapters and gradients all work: while one is there, the U-Net itself is called.
    """

    patience: int = 20
    _asked: Counter[Shape] = field(default_factory=Counter)
    _traces: dict[Shape, Any] = field(default_factory=dict)
    _plain: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._plain.extend(_parts(self.unet))

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
        if torch.is_grad_enabled() and (x_t.requires_grad or text.requires_grad):
            return False
        parts = _parts(self.unet)
        return len(parts) == len(self._plain) and all(map(lambda a, b: a is b, parts, self._plain))


def traced(model: Model, patience: int = 20) -> TracedModel:
    """The same model, faster on a CPU where its U-Net is small. It shares the weights.

    patience: how often a shape of input is asked for before it is traced.
    """
    if patience < 0:
        raise ValueError(f"patience must be 0 calls or more, got {patience}")
    return TracedModel(**{f.name: getattr(model, f.name) for f in fields(Model)}, patience=patience)


def _parts(unet: nn.Module) -> list[object]:
    """Every object that decides what a call does: modules, weights, attention processors, hooks."""
    parts: list[object] = []
    for module in unet.modules():
        inside = module.__dict__
        parts.append(module)
        parts.extend(inside["_parameters"].values())
        parts.extend(inside["_forward_hooks"].values())
        parts.extend(inside["_forward_pre_hooks"].values())
        parts.append(inside.get("processor"))
    return parts


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
