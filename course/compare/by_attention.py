"""The editors of chapter 4, on a given picture."""

from collections.abc import Callable

import torch
from torch import Tensor

from course.attention.instruct_pix2pix import encode_image, use_instruct_pix2pix
from course.attention.plug_and_play import plug_and_play
from course.attention.prompt_to_prompt import prompt_to_prompt, refine, replace
from course.compare.by_embeddings import negative_prompt_of, null_text_of
from course.compare.editor import Edit, Given, Settings
from course.core.model import Model
from course.core.sampling import invert, last, sample
from course.embeddings.pivotal import Inverted
from course.train.instruct_pix2pix import instruct_model


def by_prompt_to_prompt(inverted: Callable[[Model, Given, Settings], Inverted]) -> Edit:
    """Prompt-to-Prompt on the walk back to the picture: a word swap between prompts of as many words, else
    their refinement."""

    def edit(model: Model, given: Given, settings: Settings, generator: torch.Generator) -> Tensor:
        found, prompts = inverted(model, given, settings), (given.source, given.target)
        as_long = len(given.source.split()) == len(given.target.split())
        edits = (replace if as_long else refine)(model.tokenizer, *prompts)
        denoise = found.denoiser(model.predict, model.encode_text(prompts))
        times = list(found.pivot)
        ends = prompt_to_prompt(model.unet, denoise, found.pivot[times[0]], edits, times, model.schedule)
        return model.decode(ends[1:])

    return edit


def by_plug_and_play(model: Model, given: Given, settings: Settings, generator: torch.Generator) -> Tensor:
    """Plug-and-Play on the noise that the empty prompt inverts the picture to."""
    guide = model.denoiser("", guidance_scale=1)
    guided = model.denoiser(given.target, guidance_scale=settings.scale)
    walk = (model.schedule.times(settings.steps), model.schedule)
    x_T = last(invert(guide, model.encode(given.picture), *walk))
    return model.decode(plug_and_play(model.unet, guided, guide, x_T, *walk))


def by_instruct_pix2pix(model: Model, given: Given, settings: Settings, generator: torch.Generator) -> Tensor:
    """InstructPix2Pix at the paper's image guidance; `model` has the U-Net that learnt it."""
    assert given.instruction is not None
    text, null = model.encode_text(given.instruction), model.encode_text("")
    seen = encode_image(model.vae, given.picture)
    denoise = use_instruct_pix2pix(model.unet, seen, text, null, model.schedule, settings.scale, 1.5)
    times = model.schedule.times(settings.steps)
    return model.decode(last(sample(denoise, model.noise(1, generator), times, model.schedule)))


def instructed_by(pairs: str) -> Callable[[Model], Model]:
    """Opens the sticker model that learnt from these pairs ("drawn" or "true").

    Raises FileNotFoundError where its weights are not there, and for another model than the stickers'.
    """

    def opened(model: Model) -> Model:
        found = instruct_model(pairs, model)
        ours, theirs = found.unet.config, model.unet.config
        if any(ours[name] != theirs[name] for name in ("sample_size", "cross_attention_dim", "out_channels")):
            raise FileNotFoundError("there are weights for the sticker model only")
        return found

    return opened


P2P = {
    "negative prompt": by_prompt_to_prompt(negative_prompt_of),
    "null-text": by_prompt_to_prompt(null_text_of),
}
