"""Palette: one conditional diffusion model that colours, fills in, extends and restores pictures."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from course.core.checks import check_mask, check_noise, check_option
from course.core.sampling import Step, blend, last, sample
from course.core.schedule import Schedule

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x, y_t, gamma [b]) -> eps
TRAINING = {"beta_start": 1e-6, "beta_end": 0.01, "num_train_timesteps": 2000}  # both linear, as the paper's
SAMPLING = {"beta_start": 1e-4, "beta_end": 0.09, "num_train_timesteps": 1000}


def palette_loss(
    predict: Predict,
    x: Float[Tensor, "b c h w"],
    y: Float[Tensor, "b c h w"],
    gamma: Float[Tensor, " b"],
    eps: Float[Tensor, "b c h w"],
    mask: Float[Tensor, "b 1 h w"] | None = None,
    *,
    p: Literal[1, 2] = 2,
    target: Literal["eps", "v"] = "eps",
    floor: float = 0.0,
) -> Tensor:
    """|f(x, y_t, gamma) - eps|^p, its mean. Saharia et al. 2022, arXiv:2111.05826, Eq. 3.

    x: what is left of the picture y. gamma: the level of signal, alpha_bar, see `draw_gamma`.
    mask: 1 where y is to be filled in. Elsewhere y is known: the network sees it without noise, here as in
    sampling, and the loss does not count it.
    p: 2, or 1, which the paper finds to give samples that differ less.
    target: "v" compares v = sqrt(gamma) eps - sqrt(1 - gamma) y instead, whose error is that of eps over
    sqrt(gamma): the noisiest levels then count, and a small model learns sooner what belongs where.
    floor: the error of v is that of y over the noise sqrt(1 - gamma); this one divides by no less than
    `floor`, for a model that says y, whose error at little noise would else be all that counts.
    Raises ValueError for shapes that do not fit, a gamma outside (0, 1), and another p or target.
    """
    check_option("p", p, (1, 2))
    check_option("target", target, ("eps", "v"))
    check_noise(y, eps)
    if gamma.shape != y.shape[:1] or not ((gamma > 0) & (gamma < 1)).all():
        raise ValueError(f"gamma must be {len(y)} levels in (0, 1), got {gamma.tolist()[:8]}: draw_gamma")
    level = gamma.view(-1, 1, 1, 1)
    y_t = level.sqrt() * y + (1 - level).sqrt() * eps
    counted = torch.ones_like(y[:, :1]) if mask is None else mask
    y_t = blend(y_t, y, counted)
    error = (predict(x, y_t, gamma) - eps).abs()
    if target == "v":
        noise = (1 - level).sqrt()
        error = error / level.sqrt() * noise / noise.clamp(min=floor)
    return (counted * error**p).sum() / (counted.sum() * y.shape[1]).clamp(min=1)


def draw_gamma(schedule: Schedule, n: int, generator: torch.Generator | None = None) -> Float[Tensor, " n"]:
    """n levels of signal: a time each, then a place between that time's level and the one before (section 3).

    Continuous, so that a model may be sampled at levels that it was not trained at.
    """
    levels = torch.cat([torch.ones(1).double(), schedule.alpha_bar.double()])
    t = torch.randint(len(schedule.alpha_bar), (n,), generator=generator)
    share = torch.rand(n, generator=generator, dtype=torch.float64)
    return levels[t] + share * (levels[t + 1] - levels[t])


def palette(
    predict: Predict,
    x: Float[Tensor, "b c h w"],
    noise: Float[Tensor, "b c h w"],
    times: Sequence[int],
    schedule: Schedule,
    mask: Float[Tensor, "#b 1 h w"] | None = None,
    known: Float[Tensor, "b c h w"] | None = None,
    *,
    eta: float = 1.0,
    limit: float | None = 1.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "b c h w"]:
    """Pictures that x may be what is left of, by ancestral sampling (eta 1). Saharia et al. 2022, Eq. 5, 6.

    noise: of unit variance; another noise, another picture. schedule: any levels; the paper trains at
    `TRAINING` and samples at `SAMPLING`. mask: 1 where to fill in; `known` is kept elsewhere, at every step
    without noise. limit: the predicted picture is clamped to [-limit, limit] at each step; None: it is not.
    Raises ValueError for a mask without `known`, or the reverse, for shapes that do not fit, and a bad eta.
    """
    steps = palette_steps(
        predict, x, noise, times, schedule, mask, known, eta=eta, limit=limit, generator=generator
    )
    return last(steps)


def palette_steps(
    predict: Predict,
    x: Float[Tensor, "b c h w"],
    noise: Float[Tensor, "b c h w"],
    times: Sequence[int],
    schedule: Schedule,
    mask: Float[Tensor, "#b 1 h w"] | None = None,
    known: Float[Tensor, "b c h w"] | None = None,
    *,
    eta: float = 1.0,
    limit: float | None = 1.0,
    generator: torch.Generator | None = None,
) -> Iterator[Step]:
    """The steps of `palette`, to watch."""
    check_noise(x, noise)
    if (mask is None) != (known is None):
        raise ValueError("mask and known belong together: give both to fill in a part, or neither")
    if limit is not None and not limit > 0:
        raise ValueError(f"limit must be above 0 (1 for pictures in [-1, 1]), or None; got {limit}")
    if mask is not None and known is not None:
        check_mask(mask, known)
        check_noise(known, noise)

    def keep(y: Tensor) -> Tensor:
        return y if mask is None or known is None else blend(y, known, mask)

    def denoise(y_t: Tensor, t: int) -> Tensor:
        wide = torch.promote_types(y_t.dtype, torch.float32)  # half precision cannot tell levels apart
        gamma = torch.full((len(y_t),), schedule.signal(t) ** 2, dtype=wide, device=y_t.device)
        eps = predict(x, y_t, gamma)
        if limit is None:
            return eps
        y_0 = ((y_t - schedule.noise(t) * eps) / schedule.signal(t)).clamp(-limit, limit)
        return (y_t - schedule.signal(t) * y_0) / schedule.noise(t)

    return sample(
        denoise,
        keep(noise),
        times,
        schedule,
        eta=eta,
        generator=generator,
        intervene=lambda step: keep(step.x_s),
    )
