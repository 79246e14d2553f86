"""Stochastic refinement: a network predicts the sharp picture, a diffusion model draws what it left out."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from course.core.checks import check_option
from course.core.sampling import Step, last, noise_like, sample
from course.core.schedule import Schedule

Predictor = Callable[[Tensor], Tensor]  # blurred -> sharp, a first guess
ResidualDenoiser = Callable[[Tensor, Tensor, Tensor], Tensor]  # (r_t, alpha_bar [b], blurred) -> eps


def refinement_schedule(steps: int = 2000, first: float = 1e-6, final: float = 1e-2) -> Schedule:
    """Betas from `first` to `final` on a line; `schedule.times(n)` begins at the noisiest level.

    A denoiser trained on continuous levels walks any such schedule: choose another when you sample.
    """
    return Schedule.from_config(
        {
            "num_train_timesteps": steps,
            "beta_schedule": "linear",
            "beta_start": first,
            "beta_end": final,
            "timestep_spacing": "trailing",
        }
    )


def draw_levels(
    schedule: Schedule, n: int, generator: torch.Generator | None = None
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Continuous levels alpha_bar in (0, 1) for training, and the times t whose interval they lie in.

    A time is drawn, then sqrt(alpha_bar) evenly between those of t and t - 1 (Chen et al. 2021, WaveGrad,
    arXiv:2009.00713, section 2.3). Before time 0 stands the clean picture, 1.
    """
    signals = torch.cat([torch.ones(1, dtype=torch.float64), schedule.alpha_bar.double().sqrt()])
    t = torch.randint(len(schedule.alpha_bar), (n,), generator=generator)
    share = torch.rand(n, generator=generator, dtype=torch.float64)
    return torch.lerp(signals[t + 1], signals[t], share).square().float(), t


def residual(
    predict: Predictor, sharp: Float[Tensor, "b c h w"], blurred: Float[Tensor, "b c h w"], scale: float = 1.0
) -> Float[Tensor, "b c h w"]:
    """r_0 = (sharp - prediction) / scale: what has to be added. Never blurred - prediction."""
    return (sharp - predict(blurred)) / scale


def refinement_loss(
    predict: Predictor,
    denoise: ResidualDenoiser,
    sharp: Float[Tensor, "b c h w"],
    blurred: Float[Tensor, "b c h w"],
    alpha_bar: Float[Tensor, " b"],
    eps: Float[Tensor, "b c h w"],
    *,
    scale: float = 1.0,
    norm: Literal["l1", "l2"] = "l1",
) -> Tensor:
    """|eps - f(r_t, alpha_bar, blurred)|, its mean. Whang et al. 2022, arXiv:2112.02475, section 3.

    Both networks learn from it: the gradient reaches the predictor through the residual, and no other loss
    pins the prediction. alpha_bar: as `draw_levels` gives them. scale: the residual's standard deviation, so
    that the schedule meets one of about 1. norm: the paper's "l1", or "l2", the mean square.
    Raises ValueError for shapes that differ, levels outside (0, 1], a scale not above 0, another norm.
    """
    check_option("norm", norm, ("l1", "l2"))
    _check_scale(scale)
    if not (sharp.shape == blurred.shape == eps.shape) or alpha_bar.shape != sharp.shape[:1]:
        raise ValueError(
            "sharp, blurred and eps must have one shape [b c h w], alpha_bar [b]; got "
            f"{[list(each.shape) for each in (sharp, blurred, eps, alpha_bar)]}"
        )
    if not ((alpha_bar > 0) & (alpha_bar <= 1)).all():
        raise ValueError("alpha_bar must lie in (0, 1]: draw_levels gives such levels")
    level = alpha_bar.view(-1, 1, 1, 1)
    r_t = level.sqrt() * residual(predict, sharp, blurred, scale) + (1 - level).sqrt() * eps
    error = eps - denoise(r_t, alpha_bar, blurred)
    return error.abs().mean() if norm == "l1" else error.square().mean()


def stochastic_refinement(
    predict: Predictor,
    denoise: ResidualDenoiser,
    blurred: Float[Tensor, "b c h w"],
    times: Sequence[int],
    schedule: Schedule,
    *,
    samples: int = 1,
    scale: float = 1.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "b c h w"]:
    """The prediction plus a residual drawn in ancestral steps. Whang et al. 2022, section 3 and 4.

    The predictor runs once, the denoiser at each time. samples: the mean of so many draws (the paper's
    sample averaging): nearer to the truth on average, and smoother. scale: as in training.
    Raises ValueError for samples below 1 or not whole, a scale not above 0, times that do not fall.
    """
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise ValueError(f"samples must be a whole number from 1 up, got {samples!r}")
    _check_scale(scale)
    guess, total = predict(blurred), torch.zeros_like(blurred)
    for _ in range(samples):
        total += last(residual_steps(denoise, blurred, times, schedule, generator=generator))
    return guess + scale * total / samples


def residual_steps(
    denoise: ResidualDenoiser,
    blurred: Float[Tensor, "b c h w"],
    times: Sequence[int],
    schedule: Schedule,
    *,
    generator: torch.Generator | None = None,
) -> Iterator[Step]:
    """The steps of one residual, from noise down, to watch; the residual in units of its scale."""

    def at_level(r_t: Tensor, t: int) -> Tensor:
        return denoise(r_t, blurred.new_full((len(blurred),), schedule.signal(t) ** 2), blurred)

    start = noise_like(blurred, generator)
    return sample(at_level, start, times, schedule, eta=1.0, generator=generator)


def _check_scale(scale: float) -> None:
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale must be above 0, got {scale}: it is the residual's standard deviation")
