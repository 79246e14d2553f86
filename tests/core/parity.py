"""Does a model, driven by our sampler, draw what diffusers' own pipeline draws? Call it with any Model."""

from collections.abc import Sequence

import torch
from diffusers import DDIMInverseScheduler

from course.core.model import Model
from course.core.sampling import invert, last, sample


def pipeline_difference(
    model: Model,
    prompts: Sequence[str],
    negative_prompt: str = "",
    guidance_scale: float = 7.5,
    steps: int = 5,
    eta: float = 0.0,
    seed: int = 0,
) -> float:
    """Largest absolute difference of images in [-1, 1] between ours and StableDiffusionPipeline's.

    With trailing spacing steps must divide T, and linspace will not do: there diffusers misses the next time.
    """
    x_T = model.noise(len(prompts), torch.Generator().manual_seed(seed))
    walk = sample(
        model.denoiser(prompts, negative_prompt, guidance_scale),
        x_T,
        model.schedule.times(steps),
        model.schedule,
        eta=eta,
        generator=torch.Generator().manual_seed(seed + 1),
    )
    ours = model.decode(last(walk))
    theirs = model.pipeline()(
        list(prompts),
        height=model.image_size,
        width=model.image_size,
        negative_prompt=[negative_prompt] * len(prompts),
        guidance_scale=guidance_scale,
        num_inference_steps=steps,
        eta=eta,
        latents=x_T,
        generator=torch.Generator().manual_seed(seed + 1),
        output_type="pt",
    ).images
    return float((ours - (theirs * 2 - 1)).abs().max())


def inversion_difference(model: Model, prompt: str, steps: int = 10, seed: int = 0) -> float:
    """Largest absolute difference of inverted latents from DDIMInverseScheduler's, which is given eps."""
    x = x_0 = model.noise(1, torch.Generator().manual_seed(seed))
    text = model.encode_text(prompt)
    peer = DDIMInverseScheduler.from_config(model.scheduler_config, prediction_type="epsilon")
    peer.set_timesteps(steps)
    for t in peer.timesteps:
        x = peer.step(model.predict(x, int(t), text), t, x).prev_sample
    ours = last(
        invert(model.denoiser(prompt, guidance_scale=1), x_0, model.schedule.times(steps), model.schedule)
    )
    return float((ours - x).abs().max())
