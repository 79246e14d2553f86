"""One training loop for every method that learns; a generator, so that the caller logs and stops."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from course.core.schedule import Schedule

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Progress:
    """What one step did: its number (from 1), the batch's loss, the learning rate it used."""

    step: int
    loss: float
    lr: float


def constant(_step: int) -> float:
    """A learning rate that does not change."""
    return 1.0


def warmup_stable_decay(steps: int, warmup: int = 200, decay: float = 0.4) -> Callable[[int], float]:
    """Factor on the learning rate: up over `warmup` steps, level, then down to 0 over the last part `decay`.

    The level part makes a run easy to lengthen: only the decay depends on where it ends.
    Hägele et al. 2024, arXiv:2405.18392.
    """

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / max(1, warmup))
        fall = min(1.0, (steps - step) / max(1.0, decay * steps))
        return max(0.0, min(rise, fall))

    return factor


def fit(
    loss: Callable[[Batch], Tensor],
    batches: Iterable[Batch],
    weights: Iterable[nn.Parameter],
    lr: float,
    *,
    schedule: Callable[[int], float] = constant,
    optimizer: torch.optim.Optimizer | None = None,
    start: int = 0,
    clip: float = 1.0,
    backward: Callable[[Tensor], Any] | None = None,
) -> Iterator[Progress]:
    """Take one step per batch and yield its Progress.

    schedule: factor on `lr` for step number 0, 1, ...; optimizer: AdamW over `weights` unless given;
    start: number of steps already taken; clip: largest norm of the gradient, no limit if 0;
    backward: how a loss is differentiated, `accelerator.backward` for one.
    Raises ValueError for no weights, FloatingPointError when a loss is not finite.
    """
    weights = list(weights)
    if not weights:
        raise ValueError("there is nothing to train: `weights` is empty")
    if optimizer is None:
        optimizer = torch.optim.AdamW(weights, lr=lr)
    for step, batch in enumerate(batches, start):
        rate = lr * schedule(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        value = loss(batch)
        if not value.isfinite():
            raise FloatingPointError(
                f"the loss of step {step + 1} is {value.item()}: lower lr (now {rate:g}) or check the data"
            )
        optimizer.zero_grad()
        if backward is None:
            value.backward()
        else:
            backward(value)
        if clip:
            nn.utils.clip_grad_norm_(weights, clip)
        optimizer.step()
        yield Progress(step + 1, value.item(), rate)


def denoising_loss(
    predict: Callable[[Tensor, Tensor, Tensor], Tensor],
    schedule: Schedule,
    x_0: Tensor,
    text: Tensor,
    eps: Tensor,
    t: Tensor,
    snr_gamma: float | None = None,
) -> Tensor:
    """Mean squared error of the predicted noise at times `t` [b] (DDPM, arXiv:2006.11239, Eq. 14).

    snr_gamma: weigh each time by min(SNR, gamma) / SNR (Hang et al. 2023, arXiv:2303.09556); None: all alike.
    """
    alpha_bar = schedule.alpha_bar.to(x_0)[t].view(-1, *[1] * (x_0.ndim - 1))
    x_t = alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps
    error = (predict(x_t, t, text) - eps).square().flatten(1).mean(1)
    if snr_gamma is not None:
        snr = (alpha_bar / (1 - alpha_bar)).flatten()
        error = error * snr.clamp(max=snr_gamma) / snr
    return error.mean()


class Average:
    """Exponential moving average of weights; early steps weigh less, so that the start is forgotten."""

    def __init__(self, weights: Iterable[Tensor], decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.weights = [w.detach().clone() for w in weights]
        self.decay, self.steps = decay, 0

    def update(self, weights: Iterable[Tensor]) -> None:
        """Move the average towards `weights`, given in the same order."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.weights, [w.detach() for w in weights], 1 - keep)

    def copy_to(self, weights: Iterable[Tensor]) -> None:
        """Write the average into `weights`."""
        with torch.no_grad():
            for target, source in zip(weights, self.weights, strict=True):
                target.copy_(source)
