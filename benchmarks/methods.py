"""Three jobs, each done by the course, by diffusers, and, as the floor, by the U-Net calls alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline, StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline
from torch import Tensor

from benchmarks.timing import milliseconds, race, ratio
from course.core.images import shrink_mask
from course.core.model import Model
from course.core.sampling import last, noise_like, sample
from course.noise_editing.blended_diffusion import blended_diffusion
from course.noise_editing.sdedit import sdedit

SCALE, STRENGTH = 7.5, 0.8
Draw = Callable[[Tensor], Tensor]  # noise -> latents


@dataclass(frozen=True)
class Job:
    """ours: from the prompt to pictures; walk: the part of it between encoding and decoding; theirs: diffusers."""

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
        return blended_diffusion(
            denoise, known, small, noise, times, schedule, STRENGTH, compat="diffusers"
        )

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
    """One row for each job: its times in milliseconds, their ratios, and how far ours is from diffusers'."""
    rows = []
    for job in jobs(model, prompt, steps):
        with _calls(model) as calls:
            job.walk()
        recorded = list(calls)
        times = race(
            {
                "bare": lambda recorded=recorded: [model.unet(*a, **k) for a, k in recorded],
                "walk": job.walk,
                "ours": job.ours,
                "theirs": job.theirs,
            },
            rounds,
        )
        rows.append(
            {
                "job": job.name,
                "calls": len(recorded),
                "bare_ms": milliseconds(times, "bare"),
                "walk_ms": milliseconds(times, "walk"),
                "walk_over_bare": ratio(times, "walk", "bare"),
                "ours_ms": milliseconds(times, "ours"),
                "diffusers_ms": milliseconds(times, "theirs"),
                "ours_over_diffusers": ratio(times, "ours", "theirs"),
                "difference": float((job.ours() - job.theirs()).abs().max()),
                "seconds": times,
            }
        )
    return rows


@contextmanager
def _calls(model: Model) -> Iterator[list[tuple[tuple[Any, ...], dict[str, Any]]]]:
    """The arguments of the U-Net's calls within the block."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    hook = model.unet.register_forward_pre_hook(
        lambda _, args, options: calls.append((args, options)), with_kwargs=True
    )
    try:
        yield calls
    finally:
        hook.remove()


def _pipeline(kind: type[DiffusionPipeline], model: Model) -> DiffusionPipeline:
    components = model.pipeline().components
    pipeline = kind(**components | {"scheduler": None}, requires_safety_checker=False)
    pipeline.scheduler = components["scheduler"]  # the constructor overrules steps_offset 0
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
