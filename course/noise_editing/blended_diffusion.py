"""Blended Diffusion: edit inside a mask by putting the noised source back around it, at every step."""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from course.core.checks import check_mask, check_noise, check_option
from course.core.sampling import Denoiser, Step, last, sample
from course.core.schedule import Schedule
from course.core.strength import part_redone
from course.noise_editing.loss_guidance import Loss, descending
from course.noise_editing.region import noised_outside, shrinking


def blended_diffusion(
    denoise: Denoiser,
    source: Float[Tensor, "b c h w"],
    mask: Float[Tensor, "#b 1 h w"],
    noise: Float[Tensor, "b c h w"],
    times: Sequence[int],
    schedule: Schedule,
    strength: float = 1.0,
    *,
    level: Literal["right", "before"] = "right",
    noises: Literal["fresh", "fixed"] = "fresh",
    dilations: int = 0,
    loss: Loss | None = None,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    compat: Literal["diffusers"] | None = None,
) -> Float[Tensor, "b c h w"]:
    """The source, edited where mask is 1 and itself elsewhere.

    In latents: Blended Latent Diffusion, Avrahami et al. 2023, arXiv:2206.02779, Algorithm 1; the prompt is
    in `denoise`. In pixels: Blended Diffusion, Avrahami et al. 2022, arXiv:2111.14818, Algorithm 1; the text
    is in `loss`, a function of the predicted x_0 that samples are to make small, and eta is 1.

    noise: of unit variance, shaped as the source. strength: part of the time axis that is redone, in (0, 1].
    level: of the source put back after a step from t to s. "right" is s; "before" is t, one step too noisy,
    at the last step too, as in the authors' script for Stable Diffusion 2.
    noises: the source gets a "fresh" noise at each step, as in the papers, or one "fixed" noise.
    dilations: for thin masks, begin with one grown by so many cells; it shrinks in equal parts of the walk.
    generator: draws all noise but the first.
    compat: "diffusers" is StableDiffusionInpaintPipeline with a U-Net of plain inputs: at strength 1 it
    begins with pure noise, counts steps as int(steps * strength), and its noise is fixed.
    Raises ValueError for strength outside (0, 1] or that leaves no step, noise of another shape, a mask that
    is of another size, not binary, or empty, and dilations below 0 or not below the number of steps.
    """
    return last(
        blended_diffusion_steps(
            denoise,
            source,
            mask,
            noise,
            times,
            schedule,
            strength,
            level=level,
            noises=noises,
            dilations=dilations,
            loss=loss,
            eta=eta,
            generator=generator,
            compat=compat,
        )
    )


def blended_diffusion_steps(
    denoise: Denoiser,
    source: Float[Tensor, "b c h w"],
    mask: Float[Tensor, "#b 1 h w"],
    noise: Float[Tensor, "b c h w"],
    times: Sequence[int],
    schedule: Schedule,
    strength: float = 1.0,
    *,
    level: Literal["right", "before"] = "right",
    noises: Literal["fresh", "fixed"] = "fresh",
    dilations: int = 0,
    loss: Loss | None = None,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    compat: Literal["diffusers"] | None = None,
) -> Iterator[Step]:
    """The steps of `blended_diffusion`, to watch."""
    check_noise(source, noise)
    check_mask(mask, source)
    check_option("level", level, ("right", "before"))
    check_option("noises", noises, ("fresh", "fixed"))
    check_option("compat", compat, (None, "diffusers"))
    peer = compat == "diffusers"
    redone = part_redone(times, schedule, strength, truncate=peer)
    masks = shrinking(mask, redone, dilations)
    fixed = noise if peer or noises == "fixed" else None
    keep = {t: noised_outside(masks[t], source, schedule, fixed, generator, level) for t in masks}
    start = noise if peer and strength == 1 else schedule.add_noise(source, noise, redone[0])
    return sample(
        denoise if loss is None else descending(denoise, loss, schedule),
        start,
        redone,
        schedule,
        eta=eta,
        generator=generator,
        intervene=lambda step: keep[step.t](step),
    )
