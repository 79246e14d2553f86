"""Palette's networks: one for all tasks, one for each, and the rivals that it is held against."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from course.core.schedule import Schedule
from course.noise_editing.palette import draw_gamma, palette_loss
from course.train.data import as_images, training_scenes
from course.train.files import save_networks
from course.train.loop import Run, generator_for
from course.train.muon import muon_for
from course.world import degrade
from course.world.vocabulary import SIZE, check

TASKS = ("colourisation", "inpainting", "uncropping", "jpeg")
PATCH = 2  # pixels; the network sees the picture as 32 x 32 patches of 12 numbers
CONFIG: dict[str, Any] = {
    "sample_size": SIZE // PATCH,
    "in_channels": 2 * 3 * PATCH**2,
    "out_channels": 4 * PATCH**2,  # a pixel's colour, and how much of x is added to it
    "block_out_channels": (32, 64, 96, 128),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    "attention_head_dim": 32,
    "norm_num_groups": 16,
}
ENDS = ("model.unet.conv_in", "model.unet.conv_out", "model.unet.time_embedding")
LEVELS = {"beta_schedule": "squaredcos_cap_v2"}  # of training and of sampling
WEIGHTS = Path(__file__).parents[1] / "weights" / "palette"
SEED, FLOOR = 9, 0.3


@dataclass(frozen=True)
class Net:
    """What a network learns: its tasks, the loss's power, and whether it is a plain regression."""

    tasks: tuple[str, ...] = TASKS
    p: Literal[1, 2] = 2
    regression: bool = False


START = Net()  # what all of them go on from: alone, each would need as many steps again
NETS = {
    "all": Net(),
    "colourisation": Net(("colourisation",)),
    "inpainting": Net(("inpainting",)),
    "jpeg": Net(("jpeg",)),
    "l1": Net(p=1),
    "regression": Net(regression=True),
}


def degraded(task: str, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What a task leaves of the pictures, [b 3 h w], and the mask of what is to be found, [b 1 h w].

    A part that is missing holds unit noise, as in the paper.
    """
    check(task, TASKS, "a task of Palette")
    n, size = len(images), images.shape[-1]
    everything = torch.ones(n, 1, size, size)
    if task == "colourisation":
        return degrade.grey(images), everything
    if task == "jpeg":
        return degrade.jpeg(images, degrade.draw_qualities(n, generator)), everything
    mask = (degrade.hole if task == "inpainting" else degrade.border)(n, size, generator)
    noise = torch.randn(images.shape, generator=generator)
    return mask * noise + (1 - mask) * images, mask


class Palette(nn.Module):
    """eps of (x, y_t, gamma), pictures [b 3 64 64] and levels [b]; a U-Net over patches that predicts y.

    It says y as a picture of its own plus a share of x, from pixel to pixel: what is left is often nearly y,
    and in a hole it is worth nothing.

    A patch of noise is 12 numbers without a rule, a patch of a picture is less: a network of few channels can
    say the picture better than the noise (Li and He 2025, arXiv:2511.13720). The level is told as the angle
    whose cosine is sqrt(gamma), which spreads the levels evenly.
    """

    def __init__(self, unet: UNet2DModel) -> None:
        super().__init__()
        self.unet = unet

    def picture(self, x: Tensor, y_t: Tensor, gamma: Tensor) -> Tensor:
        """The network's own answer, y."""
        both = pixel_unshuffle(torch.cat([x, y_t], 1), PATCH)
        angle = 1000 * 2 / torch.pi * gamma.clamp(0, 1).sqrt().acos()
        own, share = pixel_shuffle(self.unet(both, angle).sample, PATCH).split([3, 1], 1)
        return own + share.sigmoid() * x

    def forward(self, x: Tensor, y_t: Tensor, gamma: Tensor) -> Tensor:
        level = gamma.view(-1, 1, 1, 1)
        return (y_t - level.sqrt() * self.picture(x, y_t, gamma)) / (1 - level).sqrt()

    def regress(self, x: Tensor) -> Tensor:
        """y of x at once: the network's answer where there is no signal, and for noise it sees 0."""
        return self.picture(x, torch.zeros_like(x), x.new_zeros(len(x)))


class PaletteLoss(nn.Module):
    """The loss of a batch, for the kind of network that it is."""

    def __init__(self, net: Net, model: Palette) -> None:
        super().__init__()
        self.net, self.model = net, model

    def forward(self, x: Tensor, y: Tensor, mask: Tensor, gamma: Tensor, eps: Tensor) -> Tensor:
        model = self.model
        if self.net.regression:
            return (mask * (model.regress(x) - y).square()).sum() / (3 * mask.sum())
        return palette_loss(model, x, y, gamma, eps, mask, p=self.net.p, target="v", floor=FLOOR)


def batch_of(net: Net, step: int, n: int, seed: int = SEED) -> dict[str, Tensor]:
    """A step's batch: the tasks in turn, the same for the same step."""
    images, generator = as_images(training_scenes(seed, step, n)), generator_for(seed, step)
    parts = []
    for i, task in enumerate(net.tasks):
        y = images[i :: len(net.tasks)]
        parts.append((y, *degraded(task, y, generator)))
    y, x, mask = (torch.cat(column) for column in zip(*parts, strict=True))
    gamma = draw_gamma(Schedule.from_config(LEVELS), n, generator).float()
    return {"x": x, "y": y, "mask": mask, "gamma": gamma, "eps": torch.randn(y.shape, generator=generator)}


def train_start(
    folder: Path, steps: int = 2600, batch_size: int = 16, config: Mapping[str, Any] = CONFIG
) -> Palette:
    """What all of NETS go on from: a network of all tasks, before its learning rate falls far."""
    torch.manual_seed(SEED)
    model = Palette(UNet2DModel(**config))
    return _trained(folder, "start", START, model, SEED, steps, batch_size, lr=3e-3, decay=0.1)


def train(folder: Path, name: str, start: Palette, steps: int = 400, batch_size: int = 16) -> Palette:
    """One of NETS, gone on from `start`; an average over its last steps. All see the same pictures."""
    check(name, tuple(NETS), "a network of Palette")
    return _trained(
        folder, name, NETS[name], deepcopy(start), SEED + 1, steps, batch_size, lr=2e-3, decay=0.8
    )


def _trained(
    folder: Path,
    name: str,
    net: Net,
    model: Palette,
    seed: int,
    steps: int,
    batch_size: int,
    lr: float,
    decay: float,
) -> Palette:
    loss = PaletteLoss(net, model.requires_grad_(True))
    Run(
        f"palette_{name}",
        loss,
        lambda step: batch_of(net, step, batch_size, seed),
        folder,
        steps=steps,
        lr=lr,
        decay=decay,
        average=0.99,
        optimizer=muon_for(loss, lr, ENDS),
    ).train()
    return model.cpu().eval().requires_grad_(False)


def save_palette(folder: Path, model: Palette) -> None:
    """Write a trained model in half precision; a write that fails leaves no folder behind."""
    save_networks(folder, {"": model.unet})


def palette_model(name: str = "all", folder: Path = WEIGHTS) -> Palette:
    """One of the shipped NETS, frozen.

    Raises ValueError for an unknown one and FileNotFoundError when its weights are not there.
    """
    check(name, tuple(NETS), "a network of Palette")
    if not (folder / name).is_dir():
        raise FileNotFoundError(
            f"missing {folder / name}: reinstall the course, or run `python -m course.train palette`"
        )
    unet = UNet2DModel.from_pretrained(folder / name, use_safetensors=True, local_files_only=True)
    return Palette(unet.float()).eval().requires_grad_(False)
