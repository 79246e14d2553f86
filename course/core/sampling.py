"""Walk latents along the noise axis: down to sample, up to invert, and between any two times.

Inversion has two conventions, which differ in the time the network is asked at on the way up from t to s:
"target" asks eps(x_t, s), as null-text inversion, pnp-diffusers and diffusers' DDIMInverseScheduler do;
"source" asks eps(x_t, t), as DDIB does. Both err by O(1 / steps). With v-prediction, DDIMInverseScheduler
asks at s but reads the answer at level t; we read it at the time that was asked.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from course.core.schedule import Schedule

Denoiser = Callable[[Tensor, int], Tensor]  # (x_t, t) -> eps


@dataclass(frozen=True, eq=False)
class Step:
    """One move from time t to time s. The tensors share one shape."""

    t: int
    s: int
    x_t: Tensor
    eps: Tensor
    x_0: Tensor  # the clean latents that x_t and eps imply
    x_s: Tensor


Intervene = Callable[[Step], Tensor]  # the x_s to go on with


def ddim_step(
    schedule: Schedule,
    x_t: Float[Tensor, "*shape"],
    eps: Float[Tensor, "*shape"],
    t: int,
    s: int,
    eta: float = 0.0,
    noise: Float[Tensor, "*shape"] | None = None,
) -> Step:
    """The step from t to s: s < t samples, s > t inverts. Song et al. 2021, arXiv:2010.02502, Eq. 12 and 16.

    eta: 0 is deterministic, 1 as random as DDPM; it needs `noise` (unit variance) and s < t.
    Raises ValueError for eta outside [0, 1], upwards, or without noise.
    """
    signal_t, noise_t = schedule.signal(t), schedule.noise(t)
    signal_s, noise_s = schedule.signal(s), schedule.noise(s)
    x_0 = (x_t - noise_t * eps) / signal_t
    if eta == 0:
        return Step(t, s, x_t, eps, x_0, signal_s * x_0 + noise_s * eps)
    if not 0 <= eta <= 1 or s > t or noise is None:
        raise ValueError(
            f"eta must be in [0, 1], and above 0 needs noise and s < t; got eta {eta}, t {t}, s {s}"
        )
    sigma = eta * noise_s / noise_t * (1 - (signal_t / signal_s) ** 2) ** 0.5 if s != t else 0.0
    x_s = signal_s * x_0 + max(noise_s**2 - sigma**2, 0.0) ** 0.5 * eps + sigma * noise
    return Step(t, s, x_t, eps, x_0, x_s)


def sample(
    denoise: Denoiser,
    x: Float[Tensor, "*shape"],
    times: Sequence[int],
    schedule: Schedule,
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    intervene: Intervene | None = None,
) -> Iterator[Step]:
    """Steps from x at times[0] down to the last time. Watch by iterating.

    intervene: looks at each step and returns the x_s to go on with; it changes nothing in place.
    generator: draws the noise that eta > 0 adds.
    Raises ValueError unless there are two times or more and they fall, and for eta outside [0, 1].
    """
    _check_falling(times)
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be in [0, 1] (0 is deterministic, 1 as random as DDPM), got {eta}")

    def walk(x: Tensor) -> Iterator[Step]:
        for t, s in pairwise(times):
            eps = denoise(x, t)
            step = ddim_step(schedule, x, eps, t, s, eta, noise_like(x, generator) if eta else None)
            if intervene is not None:
                step = replace(step, x_s=intervene(step))
            yield step
            x = step.x_s

    return walk(x)


def invert(
    denoise: Denoiser,
    x_0: Float[Tensor, "*shape"],
    times: Sequence[int],
    schedule: Schedule,
    evaluate: Literal["target", "source"] = "target",
) -> Iterator[Step]:
    """Steps from x_0 at times[-1] up to times[0]: give the falling `times` that will sample it back.

    evaluate: the time at which the network is asked (see the top of this file). No network knows CLEAN, so
    "source" asks it at 0 there. times[k:] inverts part of the way.
    Raises ValueError unless there are two times or more and they fall, and for another `evaluate`.
    """
    _check_falling(times)
    if evaluate not in ("target", "source"):
        raise ValueError(f'evaluate must be "target" or "source", got {evaluate!r}')

    def walk(x: Tensor) -> Iterator[Step]:
        for t, s in pairwise(reversed(times)):
            eps = denoise(x, s if evaluate == "target" else max(t, 0))
            step = ddim_step(schedule, x, eps, t, s)
            yield step
            x = step.x_s

    return walk(x_0)


def last(steps: Iterable[Step]) -> Tensor:
    """Run a walk to its end; the latents where it stopped."""
    end = deque(steps, maxlen=1)
    if not end:
        raise ValueError("the walk took no step: was it already consumed? Start it anew")
    return end[0].x_s


def blend(edited: Float[Tensor, "b c h w"], known: Float[Tensor, "#b c h w"], mask: Tensor) -> Tensor:
    """`edited` where mask is 1, `known` where it is 0; mask is [b 1 h w] or [1 1 h w], of their size."""
    if (
        mask.ndim != 4
        or mask.shape[1] != 1
        or mask.shape[2:] != edited.shape[2:]
        or len(mask) not in (1, len(edited))
    ):
        raise ValueError(
            f"the mask must be [1 or {len(edited)}, 1, {edited.shape[2]}, {edited.shape[3]}], "
            f"as the latents, got {list(mask.shape)}: shrink_mask brings it to that size"
        )
    mask = mask.to(edited)
    return mask * edited + (1 - mask) * known


def keep_outside(mask: Tensor, known: Mapping[int, Tensor] | Callable[[int], Tensor]) -> Intervene:
    """An `intervene` that puts the known latents where mask is 0, at the level just reached, s.

    known: latents by time, or a function of the time. Blended Latent Diffusion, arXiv:2206.02779, Alg. 1;
    its script for Stable Diffusion 2 puts them at level t, one step too noisy.
    """

    def intervene(step: Step) -> Tensor:
        if callable(known):
            return blend(step.x_s, known(step.s), mask)
        if step.s not in known:
            raise ValueError(f"no known latents at time {step.s}: there are some at {sorted(known)}")
        return blend(step.x_s, known[step.s], mask)

    return intervene


def noise_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Unit noise of x's shape, type and device; a CPU generator gives every device the same noise."""
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)


def _check_falling(times: Sequence[int]) -> None:
    if len(times) < 2 or any(t <= s for t, s in pairwise(times)):
        raise ValueError(
            f"times must be at least two and fall, as schedule.times(steps) does; got {list(times)[:8]}"
        )
