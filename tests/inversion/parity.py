"""Do this chapter's methods give what diffusers' schedulers and pipeline give? Call these with any Model."""

import warnings
from typing import Any

import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, DiffusionPipeline
from torch import Tensor

from course.core.model import Model
from course.inversion.contrast import contrast, contrast_mask
from course.inversion.ddib import ddib
from course.inversion.diffedit import diffedit, diffedit_steps


def ddib_difference(
    model: Model, source: str, target: str, steps: int, guidance_scale: float = 1.0, clip: float | None = None
) -> float:
    """Largest difference of latents, of ddib's to DDIMInverseScheduler's followed by DDIMScheduler's."""
    x = x_0 = model.noise(2, torch.Generator().manual_seed(0))
    up = model.denoiser(source, guidance_scale=1)
    down = model.denoiser(target, guidance_scale=guidance_scale)
    config = dict(model.scheduler_config) | {"prediction_type": "epsilon"}
    encoding = DDIMInverseScheduler.from_config(config)
    decoding = DDIMScheduler.from_config(
        config | {"clip_sample": clip is not None, "clip_sample_range": clip or 1.0}
    )
    encoding.set_timesteps(steps)
    for t in encoding.timesteps.tolist():
        x = encoding.step(up(x, t), t, x).prev_sample
    decoding.set_timesteps(steps)
    for t in decoding.timesteps.tolist():
        x = decoding.step(down(x, t), t, x, use_clipped_model_output=clip is not None).prev_sample
    ours = ddib(up, down, x_0, model.schedule.times(steps), model.schedule, evaluate="target", clip=clip)
    return float((ours - x).abs().max())


def mask_difference(
    model: Model,
    images: Tensor,
    source: str,
    target: str,
    negatives: tuple[str, str] | None = None,
    draws: int = 3,
    steps: int = 10,
    seed: int = 0,
) -> float:
    """Share of cells in which the mask differs from StableDiffusionDiffEditPipeline.generate_mask's.

    negatives: of source and target; with them our denoisers are guided and swapped, as the pipeline's are.
    """
    pipeline, generator = _pipeline(model), torch.Generator().manual_seed(seed)
    options: dict[str, Any] = {} if negatives is None else {
        "source_negative_prompt": [negatives[0]] * len(images),
        "target_negative_prompt": [negatives[1]] * len(images),
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pipeline.generate_mask(
            image=(images + 1) / 2,
            source_prompt=[source] * len(images),
            target_prompt=[target] * len(images),
            num_maps_per_mask=draws,
            num_inference_steps=steps,
            generator=generator,
            **options,
        )
    if negatives is None:
        query, reference = (model.denoiser(prompt, guidance_scale=1) for prompt in (target, source))
    else:
        query = model.denoiser(negatives[1], negative_prompt=target)
        reference = model.denoiser(negatives[0], negative_prompt=source)
    # It draws all posteriors first, then all noises: each of the rows is a picture of its own to us.
    generator = torch.Generator().manual_seed(seed)
    rows = model.encode(images.repeat_interleave(draws, dim=0), generator)
    times = model.schedule.times(steps)
    walk = (times, model.schedule)
    found = contrast(query, reference, rows, *walk, draws=1, generator=generator, compat="diffusers")
    ours = contrast_mask(found.unflatten(0, (-1, draws)).mean(1), compat="diffusers")
    return float((ours[:, 0] != torch.from_numpy(theirs)).float().mean())


def invert_difference(
    model: Model,
    images: Tensor,
    encoded_with: str = "",
    encode_scale: float = 1.0,
    ratio: float = 0.8,
    steps: int = 10,
    seed: int = 0,
) -> float:
    """Largest difference of latents, at any level, to StableDiffusionDiffEditPipeline.invert's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = (
            _pipeline(model)
            .invert(
                prompt=[encoded_with] * len(images),
                image=(images + 1) / 2,
                guidance_scale=encode_scale,
                generator=torch.Generator().manual_seed(seed),
                num_inference_steps=steps,
                inpaint_strength=ratio,
            )
            .latents
        )  # [b levels c h w], the noisiest first
    encode, x_0 = (
        model.denoiser(encoded_with, guidance_scale=encode_scale),
        model.encode(images, torch.Generator().manual_seed(seed)),
    )
    nowhere, walk = torch.zeros(1, 1, *x_0.shape[2:]), (model.schedule.times(steps), model.schedule, ratio)
    found = list(diffedit_steps(encode, encode, x_0, nowhere, *walk, compat="diffusers"))
    up = [step.x_s for step in found if step.s > step.t]
    assert len(up) == theirs.shape[1]
    return float((torch.stack(up[::-1], 1) - theirs).abs().max())


def diffedit_differences(
    model: Model,
    images: Tensor,
    mask: Tensor,
    prompt: str,
    encoded_with: str = "",
    encode_scale: float = 1.0,
    guidance_scale: float = 7.5,
    ratio: float = 0.8,
    steps: int = 10,
    seed: int = 0,
) -> tuple[float, float]:
    """Largest differences of edited pictures in [-1, 1]: in the pipeline's manner, and at the right level.

    mask: [b 1 h w] of the latents. For models that predict eps: the pipeline's inverse scheduler reads an
    inverting v at the wrong level.
    """
    pipeline, rows = _pipeline(model), len(images)
    about: dict[str, Any] = {"num_inference_steps": steps, "inpaint_strength": ratio}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        latents = pipeline.invert(
            prompt=[encoded_with] * rows,
            image=(images + 1) / 2,
            guidance_scale=encode_scale,
            generator=torch.Generator().manual_seed(seed),
            **about,
        ).latents
        theirs = pipeline(
            prompt=[prompt] * rows,
            mask_image=mask.clone(),
            image_latents=latents,
            guidance_scale=guidance_scale,
            output_type="pt",
            **about,
        ).images
    walk = (
        model.denoiser(prompt, guidance_scale=guidance_scale),
        model.denoiser(encoded_with, guidance_scale=encode_scale),
        model.encode(images, torch.Generator().manual_seed(seed)),
        mask,
        model.schedule.times(steps),
        model.schedule,
        ratio,
    )
    differences = [model.decode(diffedit(*walk, compat=compat)) - (theirs * 2 - 1) for compat in _MANNERS]
    peer, right = (float(each.abs().max()) for each in differences)
    return peer, right


_MANNERS: tuple[Any, ...] = ("diffusers", None)


def _pipeline(model: Model) -> DiffusionPipeline:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and says so
        from diffusers import StableDiffusionDiffEditPipeline

        parts = model.pipeline().components | {"scheduler": None}
        parts.pop("image_encoder", None)
        pipeline = StableDiffusionDiffEditPipeline(
            **parts, inverse_scheduler=None, requires_safety_checker=False
        )
    pipeline.scheduler = DDIMScheduler.from_config(model.scheduler_config)
    pipeline.inverse_scheduler = DDIMInverseScheduler.from_config(model.scheduler_config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
