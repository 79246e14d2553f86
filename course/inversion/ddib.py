"""DDIB: two models that never met meet in their noise. Encode with one, decode with the other."""

from collections.abc import Iterator, Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from course.core.sampling import Denoiser, Step, invert, last, sample
from course.core.schedule import Schedule


def ddib(
    source: Denoiser,
    target: Denoiser,
    x_0: Float[Tensor, "*shape"],
    times: Sequence[int],
    schedule: Schedule,
    *,
    evaluate: Literal["source", "target"] = "source",
    clip: float | None = None,
) -> Float[Tensor, "*shape"]:
    """x_0 of the source's domain, translated to the target's. Su et al. 2023, arXiv:2203.08382, Algorithm 1.

    source, target: denoisers of two models, or of one model under two conditions. They share the schedule
    and the shape of their latents, nothing else. A translation is a cycle's half: ddib(target, source, ...)
    comes back, up to the steps' error, O(1 / steps), as long as neither denoiser is guided.
    evaluate: the time at which the source is asked on the way up (see course.core.sampling); its default is
    the authors'.
    clip: the target's guesses of x_0 are cut off at +-clip, as the authors' ImageNet script does at 1; that
    suits pixels, breaks latents, and costs the way back.
    Raises ValueError unless there are two times or more and they fall, for another `evaluate`, and for a clip
    that is not above 0.
    """
    return last(ddib_steps(source, target, x_0, times, schedule, evaluate=evaluate, clip=clip))


def ddib_steps(
    source: Denoiser,
    target: Denoiser,
    x_0: Float[Tensor, "*shape"],
    times: Sequence[int],
    schedule: Schedule,
    *,
    evaluate: Literal["source", "target"] = "source",
    clip: float | None = None,
) -> Iterator[Step]:
    """The steps of `ddib`, to watch: up to the noise that both models share, then down, as many."""
    up = invert(source, x_0, times, schedule, evaluate)
    down = target if clip is None else clipped(target, schedule, clip)

    def bridge() -> Iterator[Step]:
        for step in up:
            yield step
        yield from sample(down, step.x_s, times, schedule)

    return bridge()


def clipped(denoise: Denoiser, schedule: Schedule, limit: float) -> Denoiser:
    """The denoiser whose guess of x_0 lies within +-limit: its eps is what then explains x_t.

    As diffusers' DDIMScheduler with clip_sample and use_clipped_model_output.
    """
    if not limit > 0:
        raise ValueError(f"clip must be above 0 (1 suits pixels; None leaves the guesses alone), got {limit}")

    def denoise_within(x_t: Tensor, t: int) -> Tensor:
        signal, noise = schedule.signal(t), schedule.noise(t)
        x_0 = (x_t - noise * denoise(x_t, t)) / signal
        return (x_t - signal * x_0.clamp(-limit, limit)) / noise

    return denoise_within
