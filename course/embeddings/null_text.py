"""Null-text inversion: find, for each step, the "no prompt" from which guidance leads back to the picture."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course.core.guidance import Predictor
from course.core.sampling import Step, ddim_step
from course.core.schedule import Schedule
from course.core.training import fit
from course.embeddings.pivotal import Inverted, pivotal

MOST_STEPS = 100  # by then the learning rate has fallen to 0


@dataclass(frozen=True, eq=False)
class NullStep:
    """One step of the guided walk, the null embeddings [b n d] found for it, and the losses of each picture.

    A loss is the mean squared distance to the pivot, taken before each step of the optimiser.
    """

    step: Step
    null: Tensor
    losses: tuple[tuple[float, ...], ...]


def null_text(
    predict: Predictor,
    x_0: Float[Tensor, "b c h w"],
    text: Float[Tensor, "k n d"],
    null: Float[Tensor, "k n d"],
    times: Sequence[int],
    schedule: Schedule,
    guidance_scale: float = 7.5,
    *,
    inner_steps: int = 10,
    lr: float = 1e-2,
    early_stop: float = 1e-5,
) -> Inverted:
    """The pictures, inverted under guidance. Mokady et al. 2023, arXiv:2211.09794, Algorithm 1.

    x_0: the latents' mean. text: of the source prompt; null: of "". times: as `schedule.times(50)` gives.
    inner_steps, lr, early_stop, errors: as in `null_text_steps`.
    """
    pivot = pivotal(predict, x_0, text, times, schedule)
    options = (schedule, guidance_scale, inner_steps, lr, early_stop)
    nulls = {each.step.t: each.null for each in null_text_steps(predict, pivot, text, null, *options)}
    return Inverted(pivot, nulls, guidance_scale)


def null_text_steps(
    predict: Predictor,
    pivot: Mapping[int, Tensor],
    text: Float[Tensor, "k n d"],
    null: Float[Tensor, "k n d"],
    schedule: Schedule,
    guidance_scale: float = 7.5,
    inner_steps: int = 10,
    lr: float = 1e-2,
    early_stop: float = 1e-5,
) -> Iterator[NullStep]:
    """The steps of `null_text`, to watch; pivot is what `pivotal` returns.

    Step i begins with the null embedding of the step before, and takes up to `inner_steps` of a fresh Adam at
    the rate lr * (1 - i / 100), until a loss is below early_stop * (1 + 2 i), as the authors' code does.
    Each picture stops for itself: a batch gives what its pictures would give alone. Embeddings and losses
    are float32 or wider. At guidance scale 1 no null embedding has an effect, and none is looked for.
    Raises ValueError for more than 100 steps, times that do not fall, texts that do not fit, numbers out of
    range.
    """
    _check(pivot, text, null, guidance_scale, inner_steps, lr, early_stop)
    times = list(pivot)
    tries = 0 if guidance_scale == 1 else inner_steps

    def walk() -> Iterator[NullStep]:
        x = pivot[times[0]]
        words = text.expand(len(x), -1, -1)
        found = null.detach().to(torch.promote_types(null.dtype, torch.float32)).expand_as(words)
        for i, (t, s) in enumerate(pairwise(times)):
            guided = _guided(predict, schedule, x, words, t, s, guidance_scale)
            rate, enough = lr * (1 - i / MOST_STEPS), early_stop * (1 + 2 * i)
            found, losses = _nearest(guided, found, pivot[s], tries, rate, enough)
            with torch.no_grad():
                step = guided(list(range(len(x))), found)
            yield NullStep(step, found, losses)
            x = step.x_s

    return walk()


Guided = Callable[[list[int], Tensor], Step]  # (rows, their null embeddings) -> the guided step of these rows


def _guided(
    predict: Predictor, schedule: Schedule, x_t: Tensor, text: Tensor, t: int, s: int, scale: float
) -> Guided:
    with torch.no_grad():
        eps_text = predict(x_t, t, text)  # the null does not change it: once is enough

    def step(rows: list[int], null: Tensor) -> Step:
        x, eps = x_t[rows], eps_text[rows]
        if scale != 1:
            eps_null = predict(x, t, null.to(text.dtype))
            eps = eps_null + scale * (eps - eps_null)
        return ddim_step(schedule, x, eps, t, s)

    return step


def _nearest(
    guided: Guided, start: Tensor, goal: Tensor, tries: int, lr: float, enough: float
) -> tuple[Tensor, tuple[tuple[float, ...], ...]]:
    """Null embeddings whose step ends near the goal, and each row's losses on the way there."""
    nulls = [nn.Parameter(row[None].clone()) for row in start]
    losses: list[list[float]] = [[] for _ in nulls]

    def too_far() -> Iterator[list[int]]:
        for _ in range(tries):
            rows = [row for row, seen in enumerate(losses) if not seen or seen[-1] >= enough]
            if not rows:
                return
            yield rows

    def loss(rows: list[int]) -> Tensor:
        x_s = guided(rows, torch.cat(tuple(nulls[row] for row in rows))).x_s
        each = (x_s - goal[rows]).to(start.dtype).square().flatten(1).mean(1)
        for row, value in zip(rows, each.tolist(), strict=True):
            losses[row].append(value)
        return each.sum()

    def backward(value: Tensor) -> None:
        value.backward(inputs=nulls)  # even where the model's weights are not frozen

    adam = torch.optim.Adam(nulls, lr)  # passes over rows without a gradient
    deque(fit(loss, too_far(), nulls, lr, optimizer=adam, clip=0, backward=backward), maxlen=0)
    return torch.cat(tuple(nulls)).detach(), tuple(map(tuple, losses))


def _check(
    pivot: Mapping[int, Tensor],
    text: Tensor,
    null: Tensor,
    guidance_scale: float,
    inner_steps: int,
    lr: float,
    early_stop: float,
) -> None:
    times = list(pivot)
    if not 1 <= len(times) - 1 <= MOST_STEPS or any(t <= s for t, s in pairwise(times)):
        raise ValueError(
            f"the pivot's times must fall, in 1 to {MOST_STEPS} steps (then the learning rate is 0); got "
            f"{len(times) - 1} steps, from {times[:3]}: pivotal(...) over schedule.times(50) makes one"
        )
    rows = len(pivot[times[0]])
    if text.shape[1:] != null.shape[1:] or not {len(text), len(null)} <= {1, rows}:
        raise ValueError(
            f"text and null must be [1 or {rows}, tokens, width], alike in the last two, got "
            f"{list(text.shape)} and {list(null.shape)}"
        )
    if not isfinite(guidance_scale):
        raise ValueError(f"guidance_scale must be finite (1 = no guidance), got {guidance_scale}")
    if isinstance(inner_steps, bool) or not isinstance(inner_steps, int) or inner_steps < 0:
        raise ValueError(f"inner_steps must be a whole number from 0 on, got {inner_steps!r}")
    if not (0 < lr < float("inf") and 0 <= early_stop < float("inf")):
        raise ValueError(
            f"lr must be above 0, early_stop 0 (no stop) or more, both finite; got {lr}, {early_stop}"
        )
