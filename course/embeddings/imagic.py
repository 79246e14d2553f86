"""Imagic: find the text that the picture is, teach the model the picture, and turn to the wanted text."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course.core.adapters import Adapters, attached, merged
from course.core.sampling import noise_like
from course.core.schedule import Schedule
from course.core.training import Progress, denoising_loss, fit
from course.core.tuning import check_trainable, restored, training

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x_t, t [b], text) -> eps, as Model.predict


@contextmanager
def imagic(
    unet: nn.Module,
    predict: Predict,
    x_0: Float[Tensor, "1 c h w"],
    target: Float[Tensor, "1 n d"],
    schedule: Schedule,
    adapters: Adapters | None = None,
    *,
    embedding_steps: int = 1000,
    embedding_lr: float = 2e-3,
    model_steps: int = 1500,
    model_lr: float = 5e-7,
    batch: int = 1,
    generator: torch.Generator | None = None,
) -> Iterator[Callable[[float], Tensor]]:
    """A function of eta, the text to sample with; within the block the U-Net is tuned to the picture.

    Kawar et al. 2023, arXiv:2210.09276, section 3.2, with its settings for Stable Diffusion; a small network
    wants fewer and larger steps. At eta 0 the text is the picture's own, at 1 the target; the paper samples
    at 0.6 to 0.8.
    predict: asks `unet`. target: the embedding of the text that the edit is to match.
    adapters: low-rank ones, trained in place of the weights; with a larger model_lr, 1e-4 or so.
    batch: draws of time and noise in each step. generator: draws them.
    Afterwards the U-Net's weights are as before, bit for bit. Raises ValueError as the three stages do.
    """
    embedding = nn.Parameter(target.detach().to(_wide(target)).clone())

    def tune(weights: list[nn.Parameter]) -> None:
        learnt = (predict, x_0, embedding, weights, schedule)
        run(fit_model(*learnt, steps=model_steps, lr=model_lr, batch=batch, generator=generator))

    text, given = partial(interpolate, target, embedding), (predict, x_0, embedding, schedule)
    run(fit_embedding(*given, steps=embedding_steps, lr=embedding_lr, batch=batch, generator=generator))
    if adapters is None:
        with restored(unet) as weights:
            tune(weights)
            yield text
    else:
        with attached(unet, adapters):
            tune([weight for each in adapters.values() for weight in each.parameters()])
        with merged(unet, adapters):
            yield text


def fit_embedding(
    predict: Predict,
    x_0: Float[Tensor, "b c h w"],
    embedding: Float[nn.Parameter, "b n d"],
    schedule: Schedule,
    *,
    steps: int = 1000,
    lr: float = 2e-3,
    batch: int = 1,
    generator: torch.Generator | None = None,
) -> Iterator[Progress]:
    """Stage A: turn the embedding, which starts as the target's, into the text that tells x_0's noise best.

    Every token moves, by Adam on the denoising loss at random times. Few steps: it must stay near the
    target. Several pictures are fitted side by side, each with an embedding of its own.
    Raises ValueError for an embedding that is not float32 or has another number of rows, for steps or batch
    below 1 and a rate not above 0.
    """
    return _fit(predict, x_0, embedding, [embedding], schedule, steps, lr, batch, generator)


def fit_model(
    predict: Predict,
    x_0: Float[Tensor, "b c h w"],
    embedding: Float[Tensor, "b n d"],
    weights: Iterable[nn.Parameter],
    schedule: Schedule,
    *,
    steps: int = 1500,
    lr: float = 5e-7,
    batch: int = 1,
    generator: torch.Generator | None = None,
) -> Iterator[Progress]:
    """Stage B: teach the model to draw x_0 from the embedding, which stays; the same loss, on `weights`.

    weights: the U-Net's own, within `restored(unet)`, or those of adapters that are attached to it.
    Raises ValueError as stage A does, for no weights, and for weights in half precision.
    """
    return _fit(predict, x_0, embedding.detach(), list(weights), schedule, steps, lr, batch, generator)


def interpolate(target: Float[Tensor, "b n d"], optimised: Tensor, eta: float) -> Float[Tensor, "b n d"]:
    """Stage C: eta * target + (1 - eta) * optimised; beyond 1 it goes on past the target.

    Raises ValueError unless both have one shape and eta is finite.
    """
    if target.shape != optimised.shape:
        raise ValueError(
            f"target {list(target.shape)} and optimised {list(optimised.shape)} must have one shape: the "
            "optimised embedding starts as a copy of the target's"
        )
    if not isfinite(eta):
        raise ValueError(f"eta must be finite (0 = the picture's text, 1 = the target), got {eta}")
    wide = _wide(target)
    return (eta * target.to(wide) + (1 - eta) * optimised.detach().to(wide)).to(target)


def run(steps: Iterable[Progress]) -> None:
    """Take all steps of a stage, watching none."""
    deque(steps, maxlen=0)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _fit(
    predict: Predict,
    x_0: Tensor,
    text: Tensor,
    weights: list[nn.Parameter],
    schedule: Schedule,
    steps: int,
    lr: float,
    batch: int,
    generator: torch.Generator | None,
) -> Iterator[Progress]:
    _check(x_0, text, steps, lr, batch)
    rows = x_0.repeat_interleave(batch, 0)

    def draws() -> Iterator[tuple[Tensor, Tensor]]:
        device = rows.device if generator is None else generator.device
        for _ in range(steps):
            t = torch.randint(len(schedule.alpha_bar), (len(rows),), generator=generator, device=device)
            yield noise_like(rows, generator), t.to(rows.device)

    def loss(draw: tuple[Tensor, Tensor]) -> Tensor:
        each = text.to(rows.dtype).repeat_interleave(batch, 0)
        return denoising_loss(predict, schedule, rows, each, *draw)

    def walk() -> Iterator[Progress]:
        with training(weights):
            adam = torch.optim.Adam(weights, lr, fused=True)  # one pass over each weight
            yield from fit(loss, draws(), weights, lr, optimizer=adam, clip=0)

    check_trainable(weights)
    return walk()


def _check(x_0: Tensor, text: Tensor, steps: int, lr: float, batch: int) -> None:
    if len(text) != len(x_0) or x_0.ndim != 4 or text.ndim != 3:
        raise ValueError(
            f"x_0 [b c h w] needs an embedding [b n d] for each picture, got {list(x_0.shape)} and "
            f"{list(text.shape)}"
        )
    for name, number in (("steps", steps), ("batch", batch)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be a whole number from 1 on, got {number!r}")
    if not 0 < lr < float("inf"):
        raise ValueError(f"a learning rate must be above 0 and finite, got {lr}")
