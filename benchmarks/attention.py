"""python -m benchmarks.attention [--rounds N] [--steps N] [--model NAME] [--tiny] [--width W] [--json F] ...

What the methods of chapter 4 add to the U-Net calls that they need. The rivals are diffusers' pipelines: for
InstructPix2Pix from picture to picture, and for TIME the edit of the weights alone. The latter's pipeline
counts on 77 tokens and on class names of diffusers 0.9, so that it edits nothing as it is shipped. It is
handed its layers here, and both edit a network of Stable Diffusion 1.5's shape with random weights, 6 GB.
"""

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks.job import Job, command, measured, run
from benchmarks.sparse import SD15, sd15
from course.attention.implicit_assumptions import time_edit
from course.attention.instruct_pix2pix import encode_image, use_instruct_pix2pix, widen
from course.attention.local_blend import LocalBlend
from course.attention.plug_and_play import plug_and_play
from course.attention.prompt_to_prompt import prompt_to_prompt, replace
from course.core.model import Model
from course.core.sampling import invert, last, sample
from course.core.schedule import Schedule
from course.train import autoencoder
from course.train.text import TEXT, make_tokenizer

SOURCE, TARGET = "a red car on grass", "a blue car on grass"
IMPLYING, IMPLIED = "a car on grass", "a blue car on grass"  # TIME adds words
STARTS = ("a photo of ", "a sketch of ")
SCALE = 7.5


def jobs(model: Model, steps: int, width: float = 1.0) -> Iterator[Job]:
    """The methods, on one picture. width: of the network whose weights TIME edits; 1 is that of SD 1.5."""
    times, schedule, unet = model.schedule.times(steps), model.schedule, model.unet
    image = torch.linspace(-1, 1, model.image_size).expand(1, 3, model.image_size, -1).contiguous()
    x_0, x_T = model.encode(image), model.noise(1, _generator())
    pair = model.denoiser([SOURCE, TARGET], guidance_scale=SCALE)
    plain, guided = model.denoiser("", guidance_scale=1), model.denoiser(TARGET, guidance_scale=SCALE)
    blend = LocalBlend(("car", "car"), size=min(model.latent_shape[1], 16))

    @torch.no_grad()
    def swapped(local_blend: LocalBlend | None = None) -> Tensor:
        edit = replace(model.tokenizer, SOURCE, TARGET)
        return prompt_to_prompt(unet, pair, x_T, edit, times, schedule, local_blend=local_blend)

    @torch.no_grad()
    def injected() -> Tensor:
        levels = last(invert(plain, x_0, times, schedule))
        return plug_and_play(unet, guided, plain, levels, times, schedule)

    @torch.no_grad()
    def assumed() -> Tensor:
        with time_edit(model, IMPLYING, IMPLIED, augmentations=STARTS):
            return last(sample(guided, x_T, times, schedule))

    yield Job("Prompt-to-Prompt, a word swapped", swapped)
    yield Job("Prompt-to-Prompt with local blend", partial(swapped, blend))
    yield Job("Plug-and-Play, inversion included", injected)
    yield _instructed(model, image, x_T, steps)
    yield Job("TIME, the edit and a guided walk", assumed)
    yield _edited(sd15_model(width))


def _instructed(model: Model, image: Tensor, x_T: Tensor, steps: int) -> Job:
    unet, times, schedule = widen(model.unet), model.schedule.times(steps), model.schedule
    with torch.no_grad():  # untrained, it would not see the picture
        unet.conv_in.weight[:, x_T.shape[1] :] = unet.conv_in.weight[:, : x_T.shape[1]]
    pipeline: Any = _pipeline("StableDiffusionInstructPix2PixPipeline", model, unet=unet)
    pipeline.scheduler = DDIMScheduler.from_config(model.scheduler_config)

    @torch.no_grad()
    def walk(seen: Tensor, text: Tensor, null: Tensor) -> Tensor:
        denoise = use_instruct_pix2pix(unet, seen, text, null, schedule, SCALE)
        return last(sample(denoise, x_T, times, schedule))

    def given() -> tuple[Tensor, Tensor, Tensor]:
        return encode_image(model.vae, image), model.encode_text(TARGET), model.encode_text("")

    def theirs() -> Tensor:
        asked = {"num_inference_steps": steps, "guidance_scale": SCALE, "latents": x_T}
        return pipeline(TARGET, image=(image + 1) / 2, output_type="pt", **asked).images * 2 - 1

    def whole() -> Tensor:
        with torch.no_grad():
            return model.decode(walk(*given()))

    rival = ("StableDiffusionInstructPix2PixPipeline", theirs)
    return Job("InstructPix2Pix, two scales", partial(walk, *given()), whole, rival, unet)


def _edited(model: Model) -> Job:
    layers = [layer for name, layer in model.unet.named_modules() if name.endswith(".attn2")]
    own = [(layer.to_v, layer.to_k) for layer in layers]
    pipeline: Any = _pipeline("StableDiffusionModelEditingPipeline", model, with_augs=list(STARTS))
    pipeline.ca_clip_layers = layers
    pipeline.og_matrices = [values for values, _ in own] + [keys for _, keys in own]
    pipeline.projection_matrices = list(pipeline.og_matrices)

    @torch.no_grad()
    def ours() -> Tensor:
        with time_edit(model, IMPLYING, IMPLIED, augmentations=STARTS):
            return layers[-1].to_k.weight.clone()

    @torch.no_grad()
    def theirs() -> Tensor:
        pipeline.edit_model(IMPLYING, IMPLIED)  # edits copies, and puts them in the layers' places
        found: Tensor = layers[-1].to_k.weight
        for layer, (values, keys) in zip(layers, own, strict=True):
            layer.to_v, layer.to_k = values, keys
        return found

    rival = ("StableDiffusionModelEditingPipeline", theirs)
    return Job("TIME, the edit of SD 1.5's shape alone", ours, rival=rival)


def sd15_model(width: float = 1.0) -> Model:
    """Random weights in Stable Diffusion 1.5's shape, but for the words and the autoencoder, the stickers'.

    width: factor on the U-Net's channels and on the number of the text encoder's layers.
    """
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "max_position_embeddings": 77}
    layers = {"num_attention_heads": 12, "num_hidden_layers": max(round(12 * width), 1)}
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = 77
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text_encoder = CLIPTextModel(CLIPTextConfig(**TEXT | sizes | layers))
        vae = AutoencoderKL(**autoencoder.CONFIG)
    return Model(sd15(width), vae, text_encoder, tokenizer, Schedule.from_config(SD15), SD15)


def measure(model: Model, steps: int, rounds: int, width: float = 1.0) -> list[dict[str, Any]]:
    """One row for each method: its times in milliseconds, and how far its result is from the rival's."""
    return [measured(model, job, rounds) for job in jobs(model, steps, width)]


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, and write the figures down."""
    parser = command("attention", __doc__)
    parser.add_argument("--width", type=float, default=1.0, help="of the network that TIME edits alone")
    asked = parser.parse_args(arguments)
    run("attention", asked, lambda model: measure(model, asked.steps, asked.rounds, asked.width))


def _pipeline(name: str, model: Model, **parts: Any) -> Any:
    """diffusers' pipeline over the model's weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some are deprecated, and say so
        components = model.pipeline().components | {"scheduler": None} | parts
        if "with_augs" in parts:
            components.pop("image_encoder", None)
        pipeline = getattr(diffusers, name)(**components, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


if __name__ == "__main__":
    main()
