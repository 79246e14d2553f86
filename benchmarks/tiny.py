"""A model of the stickers' shape with random weights: speed does not depend on what was learnt."""

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from course.core.model import Model
from course.core.schedule import Schedule
from course.train import autoencoder, denoiser
from course.train.text import make_text_encoder, make_tokenizer


def random_model() -> Model:
    """The model that `python -m course.train` begins with."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model(
            unet=UNet2DConditionModel(**denoiser.CONFIG),
            vae=AutoencoderKL(**autoencoder.CONFIG),
            text_encoder=make_text_encoder().eval().requires_grad_(False),
            tokenizer=make_tokenizer(),
            schedule=Schedule.from_config(denoiser.SCHEDULER),
            scheduler_config=denoiser.SCHEDULER,
        )
