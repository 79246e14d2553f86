"""SDEdit: noise a guide until its faults drown, and let the model draw the rest again."""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from course.core.checks import check_mask, check_noise, check_option
from course.core.sampling import Denoiser, Step, blend, last, noise_like, sample
from course.core.schedule import Schedule
from course.core.strength import part_redone
from course.noise_editing.region import noised_outside

Compat = Literal["diffusers", "official"]


def sdedit(
    denoise: Denoiser,
    guide: Float[Tensor, "b c h w"],
    noise: Float[Tensor, "b c h w"],
    times: Sequence[int],
    schedule: Schedule,
    strength: float = 0.5,
    *,
    mask: Float[Tensor, "#b 1 h w"] | None = None,
    repeats: int = 1,
    eta: float = 1.0,
    generator: torch.Generator | None = None,
    compat: Compat | None = None,
) -> Float[Tensor, "b c h w"]:
    """The edited guide. Meng et al. 2022, arXiv:2108.01073, Algorithms 4 and 5 (variance preserving).

    guide: latents, or pixels in [-1, 1] for a model of pixels. noise: of unit variance, shaped alike.
    strength: the paper's t_0, the part of the time axis that is redone, in (0, 1]; it advises 0.3 to 0.6.
    mask: 1 = may change; the rest goes along at the level just reached, and in the end is the guide itself.
    repeats: the paper's K; each further one begins with the last result and fresh noise.
    eta: 1 is the paper's stochastic walk, 0 the deterministic one. generator: draws all noise but the first.
    compat: "diffusers" counts steps as StableDiffusionImg2ImgPipeline does, int(steps * strength); eta is 0
    there. "official" keeps the rest as the authors' code does: one step too noisy, by the one noise of the
    repeat, and with noise left at the end.
    Raises ValueError for strength outside (0, 1] or that leaves no step, repeats < 1, eta outside [0, 1],
    noise of another shape, and a mask that is of another size, not binary, or empty.
    """
    return last(
        sdedit_steps(
            denoise,
            guide,
            noise,
            times,
            schedule,
            strength,
            mask=mask,
            repeats=repeats,
            eta=eta,
            generator=generator,
            compat=compat,
        )
    )


def sdedit_steps(
    denoise: Denoiser,
    guide: Float[Tensor, "b c h w"],
    noise: Float[Tensor, "b c h w"],
    times: Sequence[int],
    schedule: Schedule,
    strength: float = 0.5,
    *,
    mask: Float[Tensor, "#b 1 h w"] | None = None,
    repeats: int = 1,
    eta: float = 1.0,
    generator: torch.Generator | None = None,
    compat: Compat | None = None,
) -> Iterator[Step]:
    """The steps of `sdedit`, to watch; all repeats in one walk."""
    check_noise(guide, noise)
    check_option("compat", compat, (None, "diffusers", "official"))
    if mask is not None:
        check_mask(mask, guide)
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise ValueError(f"repeats must be a whole number of 1 or more, got {repeats!r}")
    redone = part_redone(times, schedule, strength, truncate=compat == "diffusers")

    def once(guide: Tensor, noise: Tensor) -> Iterator[Step]:
        keep = None
        if mask is not None and compat == "official":
            keep = noised_outside(mask, guide, schedule, noise, level="before")
        elif mask is not None:
            keep = noised_outside(mask, guide, schedule, generator=generator)
        x = schedule.add_noise(guide, noise, redone[0])
        return sample(denoise, x, redone, schedule, eta=eta, generator=generator, intervene=keep)

    def again(steps: Iterator[Step], guide: Tensor) -> Iterator[Step]:
        edited = guide
        for repeat in range(repeats):
            if repeat > 0:
                guide = edited if mask is None else blend(edited, guide, mask)
                steps = once(guide, noise_like(guide, generator))
            for step in steps:
                yield step
                edited = step.x_s

    return again(once(guide, noise), guide)
