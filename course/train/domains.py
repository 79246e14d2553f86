"""Two models that never met, one of photographs and one of sketches, for DDIB to translate between.

Each has a set of pictures of its own, without a scene in common, begins from a seed of its own, and reads no
words. They share the schedule and the autoencoder, whose latents they are models of.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from course.core.model import Model
from course.core.schedule import Schedule
from course.train.data import as_images
from course.train.denoiser import SCHEDULER
from course.train.files import save_networks
from course.train.loop import Run, generator_for
from course.train.muon import muon_for
from course.world.scene import Dice, Scene, sample_scene
from course.world.vocabulary import check

SEEDS = {"photo": 7, "sketch": 8}  # of each domain: its scenes, its first weights, its noises
KINDS = ("car", "cat", "fish", "house", "tree", "umbrella")
LARGE = 36  # pixels, from which on a sticker is
CONFIG: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 8,
    "out_channels": 8,
    "block_out_channels": (48, 80, 96),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 16,
    "norm_num_groups": 16,
}
ENDS = ("conv_in", "conv_out", "time_embedding")  # Adam trains these
WEIGHTS = Path(__file__).parents[1] / "weights" / "domains"


def domain_scenes(seed: int, n: int, style: str) -> Iterator[Scene]:
    """n random scenes of a domain, one large sticker of KINDS each, and none that is held out.

    Training uses seeds below 1,000; lessons and tests use seeds from 1,000 up.
    """
    check(style, tuple(SEEDS), "a domain")
    dice = Dice(seed)
    while n > 0:
        scene = sample_scene(dice)
        if len(scene.stickers) == 1 and scene.stickers[0].size >= LARGE and scene.stickers[0].kind in KINDS:
            n -= 1
            yield replace(scene, style=style)


class VLoss(nn.Module):
    """Squared error of v = signal eps - noise x_0 (Salimans and Ho 2022, arXiv:2202.00512)."""

    alpha_bar: Tensor

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet
        self.register_buffer("alpha_bar", Schedule.from_config(SCHEDULER).alpha_bar.float())

    def forward(self, latents: Tensor, eps: Tensor, times: Tensor) -> Tensor:
        alpha_bar = self.alpha_bar[times].view(-1, 1, 1, 1)
        x_t = alpha_bar.sqrt() * latents + (1 - alpha_bar).sqrt() * eps
        v = alpha_bar.sqrt() * eps - (1 - alpha_bar).sqrt() * latents
        return (self.unet(x_t, times, encoder_hidden_states=None).sample - v).square().mean()


@torch.no_grad()
def domain_latents(vae: AutoencoderKL, style: str, pictures: int) -> Tensor:
    """The latents of all pictures of a domain, [pictures c h w]."""
    scenes, found = list(domain_scenes(SEEDS[style], pictures, style)), []
    for i in range(0, pictures, 64):
        images = as_images(scenes[i : i + 64]).to(vae.device)
        found.append(vae.encode(images).latent_dist.mean.cpu() * vae.config.scaling_factor)
    return torch.cat(found)


def train(
    folder: Path,
    vae: AutoencoderKL,
    style: str,
    steps: int = 2000,
    batch_size: int = 32,
    lr: float = 3e-3,
    pictures: int = 12_000,
    config: Mapping[str, Any] = CONFIG,
) -> UNet2DConditionModel:
    """A model of the pictures of one style, an average over its last steps."""
    torch.manual_seed(SEEDS[style])
    unet, latents = UNet2DConditionModel(**config), domain_latents(vae, style, pictures)

    def batch(step: int) -> dict[str, Tensor]:
        generator = generator_for(SEEDS[style], step)
        chosen = torch.randint(pictures, (batch_size,), generator=generator)
        eps = torch.randn(batch_size, *latents.shape[1:], generator=generator)
        times = torch.randint(0, 1000, (batch_size,), generator=generator)
        return {"latents": latents[chosen], "eps": eps, "times": times}

    loss = VLoss(unet)
    optimizer = muon_for(unet, lr, ENDS)
    Run(f"domain_{style}", loss, batch, folder, steps=steps, lr=lr, optimizer=optimizer).train()
    return unet.cpu().eval().requires_grad_(False)


def save_domain(folder: Path, unet: UNet2DConditionModel) -> None:
    """Write a trained model in half precision; a write that fails leaves no folder behind."""
    save_networks(folder, {"": unet})


def domain_model(style: str, stickers: Model, folder: Path = WEIGHTS) -> Model:
    """The sticker model with a domain's U-Net in place of its own: prompts say nothing to it.

    Raises ValueError for an unknown domain and FileNotFoundError when its weights are not there.
    """
    check(style, tuple(SEEDS), "a domain")
    if not (folder / style).is_dir():
        raise FileNotFoundError(
            f"missing {folder / style}: reinstall the course, or run `python -m course.train domains`"
        )
    unet = UNet2DConditionModel.from_pretrained(
        folder / style, use_safetensors=True, local_files_only=True, dtype=stickers.dtype
    )
    return replace(stickers, unet=unet.to(stickers.device))
