"""The two networks of the lesson on stochastic refinement: a predictor and a denoiser of its residual.

Both are convolutions alone, learn together on blurred 64 x 64 pictures, and run at any size.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course.core.schedule import Schedule
from course.noise_editing.stochastic_refinement import (
    draw_levels,
    refinement_loss,
    refinement_schedule,
    residual,
)
from course.train.conv_unet import ConvUNet
from course.train.data import images
from course.train.files import save_networks
from course.train.loop import Run, generator_for
from course.train.muon import muon_for
from course.world.blur import blurred, sample_blur
from course.world.scene import Dice

SEED = 9
SCALE = 0.08  # standard deviation of the residual once the predictor has learnt, pixels in [-1, 1]
PIN = 0.2  # of the squared residual, in the loss of training; the paper's is 0
PREDICTOR: dict[str, Any] = {"in_channels": 3, "widths": (32, 64, 96), "with_level": False}
DENOISER: dict[str, Any] = {"in_channels": 6, "widths": (32, 48, 64), "with_level": True}
ENDS = ("predictor.first", "predictor.final", "denoiser.first", "denoiser.final", "denoiser.embedding")
WEIGHTS = Path(__file__).parents[1] / "weights" / "refinement"


class Refinement(nn.Module):
    """The pair as the library takes it: `predict` and `denoise`; its forward is the training loss.

    To the paper's loss it adds `pin` times the mean square of the residual. Nothing else pins the prediction:
    without it, in as short a training as this, the prediction was hardly better than the blurred picture, and
    the denoiser, which sees that too, did what little was done.
    """

    def __init__(
        self, predictor: ConvUNet, denoiser: ConvUNet, scale: float = SCALE, pin: float = PIN
    ) -> None:
        super().__init__()
        self.predictor, self.denoiser, self.scale, self.pin = predictor, denoiser, scale, pin

    def predict(self, y: Tensor) -> Tensor:
        """The first guess: the blurred picture and what the network would change about it."""
        return y + self.predictor(y)

    def denoise(self, r_t: Tensor, alpha_bar: Tensor, y: Tensor) -> Tensor:
        """eps, from the network's v: its error is not blown up where hardly any signal is left."""
        level = alpha_bar.view(-1, 1, 1, 1)
        return level.sqrt() * self.denoiser(torch.cat([r_t, y], 1), alpha_bar) + (1 - level).sqrt() * r_t

    def forward(self, sharp: Tensor, blurry: Tensor, alpha_bar: Tensor, eps: Tensor) -> Tensor:
        guess = self.predict(blurry)

        def known(y: Tensor) -> Tensor:
            return guess  # the predictor runs once for both terms

        loss = refinement_loss(known, self.denoise, sharp, blurry, alpha_bar, eps, scale=self.scale)
        return loss + self.pin * residual(known, sharp, blurry, self.scale).square().mean()


def schedule() -> Schedule:
    """The levels of training: half the paper's largest beta, for a residual of unit variance is drowned."""
    return refinement_schedule(final=5e-3)


def blurred_batch(step: int, n: int) -> dict[str, Tensor]:
    """A step's pictures, blurred and not, its levels and its noise."""
    generator, dice = generator_for(SEED, step), Dice(SEED * 1_000_000_007 + step)
    sharp = images(SEED, step, n)
    grain, eps = (torch.randn(sharp.shape, generator=generator) for _ in range(2))
    blurry = blurred(sharp, [sample_blur(dice) for _ in range(n)], grain)
    alpha_bar, _ = draw_levels(schedule(), n, generator)
    return {"sharp": sharp, "blurry": blurry, "alpha_bar": alpha_bar, "eps": eps}


def train(
    folder: Path,
    steps: int = 1500,
    batch_size: int = 16,
    lr: float = 3e-3,
    predictor: Mapping[str, Any] = PREDICTOR,
    denoiser: Mapping[str, Any] = DENOISER,
) -> Refinement:
    """Both networks, averages over their last steps."""
    torch.manual_seed(SEED)
    pair = Refinement(ConvUNet(**predictor), ConvUNet(**denoiser))
    pair.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a sixth faster on a CPU

    def prepare(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        laid = {"memory_format": torch.channels_last}
        return {name: each.contiguous(**laid) if each.ndim == 4 else each for name, each in batch.items()}

    Run(
        "refinement",
        pair,
        lambda step: blurred_batch(step, batch_size),
        folder,
        steps=steps,
        lr=lr,
        average=0.99,
        optimizer=muon_for(pair, lr, ENDS),
        prepare=prepare,
    ).train()
    return pair.cpu().eval().requires_grad_(False)


def save_refinement(folder: Path, pair: Refinement) -> None:
    """Write both networks in half precision; a write that fails leaves no folder behind."""
    save_networks(folder, {"predictor": pair.predictor, "denoiser": pair.denoiser})


def refinement_model(folder: Path = WEIGHTS) -> Refinement:
    """The trained pair, in float32. Raises FileNotFoundError when its weights are not there."""
    if missing := [name for name in ("predictor", "denoiser") if not (folder / name).is_dir()]:
        raise FileNotFoundError(
            f"missing {folder / missing[0]}: reinstall the course, or run `python -m course.train refinement`"
        )
    networks = [
        ConvUNet.from_pretrained(folder / name, use_safetensors=True, local_files_only=True).float()
        for name in ("predictor", "denoiser")
    ]
    pair = Refinement(*networks).eval().requires_grad_(False)
    return pair.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
