"""Do this chapter's methods give what diffusers' own pipelines give? Call these with any Model."""

import copy
from typing import Any

import torch
from diffusers import DiffusionPipeline, StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline
from torch import Tensor

from course.core.images import shrink_mask
from course.core.model import Model
from course.core.sampling import noise_like
from course.noise_editing.blended_diffusion import blended_diffusion
from course.noise_editing.sdedit import sdedit


def img2img_difference(
    model: Model, images: Tensor, prompt: str, strength: float, steps: int, guidance_scale: float = 7.5
) -> float:
    """Largest difference of images [b 3 H W] in [-1, 1], of sdedit's to StableDiffusionImg2ImgPipeline's."""
    latents, noise = _drawn(model, images)
    times = model.schedule.times(steps)
    denoise = model.denoiser(prompt, guidance_scale=guidance_scale)
    ours = sdedit(denoise, latents, noise, times, model.schedule, strength, eta=0, compat="diffusers")
    options = {"image": (images + 1) / 2, "strength": strength, "guidance_scale": guidance_scale}
    theirs = _run(StableDiffusionImg2ImgPipeline, model, prompt, steps, len(images), **options)
    return float((model.decode(ours) - theirs).abs().max())


def inpaint_difference(
    model: Model,
    images: Tensor,
    masks: Tensor,
    prompt: str,
    strength: float,
    steps: int,
    guidance_scale: float = 7.5,
) -> float:
    """As above, of blended_diffusion to StableDiffusionInpaintPipeline; masks [b 1 H W], 1 = may change."""
    latents, noise = _drawn(model, images)
    ours = blended_diffusion(
        model.denoiser(prompt, guidance_scale=guidance_scale),
        latents,
        shrink_mask(masks, *latents.shape[2:], mode="nearest"),
        noise,
        model.schedule.times(steps),
        model.schedule,
        strength,
        compat="diffusers",
    )
    height, width = images.shape[2:]
    options = {"image": (images + 1) / 2, "mask_image": masks, "height": height, "width": width}
    options |= {"strength": strength, "guidance_scale": guidance_scale}
    theirs = _run(StableDiffusionInpaintPipeline, model, prompt, steps, len(images), **options)
    return float((model.decode(ours) - theirs).abs().max())


def _drawn(model: Model, images: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Latents and noise, in the order in which the pipelines draw them from one generator."""
    generator = torch.Generator().manual_seed(seed)
    latents = model.encode(images, generator)
    return latents, noise_like(latents, generator)


def _run(
    kind: type[DiffusionPipeline],
    model: Model,
    prompt: str,
    steps: int,
    rows: int,
    seed: int = 0,
    **options: Any,
) -> Tensor:
    components = model.pipeline().components
    if kind is StableDiffusionInpaintPipeline:
        # To it, 4 channels mean "as many as the latents". The copy shares all but the config.
        components["unet"] = copy.copy(model.unet)
        components["unet"].register_to_config(in_channels=4)
    pipeline = kind(**components | {"scheduler": None}, requires_safety_checker=False)
    pipeline.scheduler = components["scheduler"]  # the constructor overrules steps_offset 0
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(seed)
    found = pipeline(
        [prompt] * rows, num_inference_steps=steps, generator=generator, output_type="pt", eta=0.0, **options
    )
    return found.images * 2 - 1
