"""Three jobs, each done by the course, by diffusers, and, as the floor, by the U-Net calls alone."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from diffusers import DiffusionPipeline, StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline
from torch import Tensor

from benchmarks.timing import milliseconds, race, ratio
from course.core.images import shrink_mask
from course.core.model import Model
from course.core.sampling import last, noise_like, sample
from course.core.speed import traced
from course.noise_editing.blended_diffusion import blended_diffusion
from course.noise_editing.sdedit import sdedit

SCALE, STRENGTH = 7.5, 0.8
Call = tuple[tuple[Any, ...], dict[str, Any]]  # of the U-Net


@dataclass(frozen=True)
class Job:
    """ours: from prompt to pictures; walk: the part between encoding and decoding; theirs: diffusers."""

    name: str
    ours: Callable[[], Tensor]
    walk: Callable[[], Tensor]
    theirs: Callable[[], Tensor]


def jobs(model: Model, prompt: str, steps: int) -> list[Job]:
    """Text to image, image to image (SDEdit) and inpainting (Blended Latent Diffusion), one picture each.

    Each draws what its diffusers pipeline draws, from one generator in the same order.
    """
    size, times, schedule = model.image_size, model.schedule.times(steps), model.schedule
    image = torch.linspace(-1, 1, size).expand(1, 3, size, size).contiguous()
    mask = torch.zeros(1, 1, size, size)
    mask[..., size // 4 : size // 2, size // 4 : size // 2] = 1
    small = shrink_mask(mask, *model.latent_shape[1:], mode="nearest").to(model.device)
    picture = {"image": (image + 1) / 2, "strength": STRENGTH}
    denoise = model.denoiser(prompt, guidance_scale=SCALE)
    known = model.encode(image, _generator())
    noise = noise_like(known, _generator())

    def text_to_image(denoise: Any, known: Tensor, noise: Tensor) -> Tensor:
        return last(sample(denoise, noise, times, schedule))

    def image_to_image(denoise: Any, known: Tensor, noise: Tensor) -> Tensor:
        return sdedit(denoise, known, noise, times, schedule, STRENGTH, eta=0, compat="diffusers")

    def inpaint(denoise: Any, known: Tensor, noise: Tensor) -> Tensor:
        return blended_diffusion(denoise, known, small, noise, times, schedule, STRENGTH, compat="diffusers")

    def job(name: str, method: Any, pipeline: DiffusionPipeline, **options: Any) -> Job:
        def ours() -> Tensor:
            generator = _generator()
            latents = model.encode(image, generator) if options else known
            drawn = noise_like(latents, generator)
            return model.decode(method(model.denoiser(prompt, guidance_scale=SCALE), latents, drawn))

        def theirs() -> Tensor:
            asked = {"num_inference_steps": steps, "guidance_scale": SCALE, "generator": _generator()}
            return pipeline(prompt, output_type="pt", **asked, **options).images * 2 - 1

        return Job(name, ours, lambda: method(denoise, known, noise), theirs)

    whole = {"height": size, "width": size}
    return [
        job("text to image", text_to_image, model.pipeline()),
        job("SDEdit (img2img)", image_to_image, _pipeline(StableDiffusionImg2ImgPipeline, model), **picture),
        job(
            "Blended Diffusion (inpaint)",
            inpaint,
            _pipeline(StableDiffusionInpaintPipeline, model),
            mask_image=mask,
            **picture,
            **whole,
        ),
    ]


def measure(model: Model, prompt: str, steps: int, rounds: int) -> list[dict[str, Any]]:
    """One row for each job: its times in milliseconds, their ratios, and how far ours is from diffusers'.

    The times without the U-Net are what the method adds to its calls; they get ten times as many rounds.
    """
    fast = jobs(traced(model, patience=0), prompt, steps)
    return [
        _measured(model, job, fast_job, rounds)
        for job, fast_job in zip(jobs(model, prompt, steps), fast, strict=True)
    ]


def _measured(model: Model, job: Job, fast: Job, rounds: int) -> dict[str, Any]:
    with _calls(model) as calls:
        job.walk()
    times = race(
        {
            "bare": partial(_again, model, list(calls)),
            "walk": job.walk,
            "ours": job.ours,
            "theirs": job.theirs,
            "traced": fast.ours,
        },
        rounds,
    )
    with _no_unet(model):
        rest = race({"walk": job.walk, "ours": job.ours, "theirs": job.theirs}, 10 * rounds)
    return {
        "job": job.name,
        "calls": len(calls),
        "bare_ms": milliseconds(times, "bare"),
        "walk_ms": milliseconds(times, "walk"),
        "walk_over_bare": ratio(times, "walk", "bare"),
        "ours_ms": milliseconds(times, "ours"),
        "diffusers_ms": milliseconds(times, "theirs"),
        "ours_over_diffusers": ratio(times, "ours", "theirs"),
        "traced_ms": milliseconds(times, "traced"),
        "traced_over_diffusers": ratio(times, "traced", "theirs"),
        "walk_without_unet_ms": milliseconds(rest, "walk"),
        "walk_without_unet_over_bare": milliseconds(rest, "walk") / milliseconds(times, "bare"),
        "ours_without_unet_ms": milliseconds(rest, "ours"),
        "diffusers_without_unet_ms": milliseconds(rest, "theirs"),
        "difference": float((job.ours() - job.theirs()).abs().max()),
        "seconds": times,
        "seconds_without_unet": rest,
    }


@contextmanager
def _no_unet(model: Model) -> Iterator[None]:
    """Within the block every U-Net of this class answers zeros at once."""

    def forward(_: Any, x_t: Tensor, *args: Any, **options: Any) -> tuple[Tensor]:
        return (torch.zeros_like(x_t),)

    with patch.object(type(model.unet), "forward", forward):
        yield


@contextmanager
def _calls(model: Model) -> Iterator[list[Call]]:
    """The arguments of the U-Net's calls within the block."""
    calls: list[Call] = []
    hook = model.unet.register_forward_pre_hook(
        lambda _, args, options: calls.append((args, options)), with_kwargs=True
    )
    try:
        yield calls
    finally:
        hook.remove()


def _again(model: Model, calls: list[Call]) -> None:
    for args, options in calls:
        model.unet(*args, **options)


def _pipeline(kind: type[DiffusionPipeline], model: Model) -> DiffusionPipeline:
    components = model.pipeline().components
    if kind is StableDiffusionInpaintPipeline:
        # To it, 4 channels mean "as many as the latents". The copy shares all but the config.
        components["unet"] = copy.copy(model.unet)
        components["unet"].register_to_config(in_channels=4)
    pipeline = kind(**components | {"scheduler": None}, requires_safety_checker=False)
    pipeline.scheduler = components["scheduler"]  # the constructor overrules steps_offset 0
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
