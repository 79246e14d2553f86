"""Muon: an optimiser for weight matrices. It learnt more from each batch than AdamW did here."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def orthogonalised(matrix: Tensor, steps: int = 5) -> Tensor:
    """Nearly U V^T of a matrix U S V^T [m n]: a quintic iteration brings its singular values to 0.7..1.2.

    Newton-Schulz with the coefficients of Jordan et al. 2024, "Muon: An optimizer for hidden layers". Each
    step multiplies x by a polynomial of x x^T; the factors are gathered and meet x only once.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / x.norm().clamp(min=1e-7)
    gram = x @ x.T
    identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    product = identity
    for _ in range(steps):
        factor = 3.4445 * identity - 4.7750 * gram + 2.0315 * gram @ gram
        product, gram = factor @ product, factor @ gram @ factor
    x = product @ x
    return x if wide else x.T


class Muon(torch.optim.Optimizer):
    """Muon for the hidden layers' matrices, Adam with decoupled weight decay for the rest.

    matrices: weights of two dimensions or more; a convolution counts as [out, in * height * width]. Their
    updates have the root mean square 0.2 of a typical Adam update, so that one learning rate serves both
    (Liu et al. 2025, arXiv:2502.16982). torch.optim.Muon refuses convolutions and computes in bfloat16,
    which many CPUs do not have.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        rest: Iterable[nn.Parameter],
        lr: float,
        *,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
        weight_decay: float = 0.01,
    ) -> None:
        matrices = list(matrices)
        if flat := [tuple(w.shape) for w in matrices if w.ndim < 2]:
            raise ValueError(
                f"Muon's matrices have two dimensions or more, got {flat[0]}: put it into `rest`"
            )
        groups = [{"params": matrices, "update": "matrix"}, {"params": list(rest), "update": "adam"}]
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Change each weight that has a gradient. A closure is refused with ValueError."""
        if closure is not None:
            raise ValueError("Muon takes no closure: call backward() yourself, then step()")
        for group in self.param_groups:
            update = _matrix_update if group["update"] == "matrix" else _adam_update
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.sub_(group["lr"] * update(weight.grad, self.state[weight], group))


def _matrix_update(grad: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
    """Momentum as Nesterov's, made orthogonal."""
    if not state:
        state["exp_avg"] = torch.zeros_like(grad)
    state["exp_avg"].lerp_(grad, 1 - group["momentum"])
    matrix = grad.lerp(state["exp_avg"], group["momentum"]).flatten(1)
    return (0.2 * max(matrix.shape) ** 0.5 * orthogonalised(matrix)).view_as(grad)


def _adam_update(grad: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
    """Adam's (Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1)."""
    if not state:
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(grad), torch.zeros_like(grad)
        state["step"] = torch.tensor(0.0)
    state["step"] += 1
    first, second = group["betas"]
    state["exp_avg"].lerp_(grad, 1 - first)
    state["exp_avg_sq"].lerp_(grad.square(), 1 - second)
    mean = state["exp_avg"] / (1 - first ** state["step"])
    square = state["exp_avg_sq"] / (1 - second ** state["step"])
    return mean / (square.sqrt() + 1e-8)


def muon_for(model: nn.Module, lr: float, ends: tuple[str, ...]) -> Muon:
    """Muon for a network's matrices and convolutions; Adam for those whose names begin with one of `ends`.

    ends: the embeddings, the first and the last layers. Raises ValueError for one that begins no name.
    """
    named = list(model.named_parameters())
    if unknown := [end for end in ends if not any(name.startswith(end) for name, _ in named)]:
        raise ValueError(f"no weight's name begins with {unknown[0]!r}: they begin as in {named[0][0]!r}")
    hidden = {name for name, w in named if w.ndim > 1 and not name.startswith(ends)}
    return Muon([w for n, w in named if n in hidden], [w for n, w in named if n not in hidden], lr)
