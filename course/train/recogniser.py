"""Trains the recogniser on pictures that are shifted, blurred, noised, or passed through the autoencoder."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from course.train.data import as_images, training_scenes
from course.train.loop import Run, generator_for
from course.world.recogniser import Recogniser, labels
from course.world.scene import Dice, Scene, sample_scene


class RecogniserLoss(nn.Module):
    """Cross-entropy of every answer; a sticker that is not there has no colour to be wrong about."""

    def __init__(self, recogniser: Recogniser) -> None:
        super().__init__()
        self.recogniser = recogniser

    def forward(self, images: Tensor, **answers: Tensor) -> Tensor:
        logits = self.recogniser(images)
        return torch.stack(
            [F.cross_entropy(logits[k], a, ignore_index=-100) for k, a in answers.items()]
        ).sum()


def _shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture moved by up to three pixels, the border repeated."""
    padded = F.pad(images, (3, 3, 3, 3), mode="replicate")
    moves = torch.randint(0, 7, (len(images), 2), generator=generator).tolist()
    return torch.stack([p[:, y : y + 64, x : x + 64] for p, (y, x) in zip(padded, moves, strict=True)])


def _blurred(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture mixed with its blurred self by a random amount."""
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = (kernel[:, None] * kernel[None]).expand(3, 1, 5, 5)
    blurred = F.conv2d(F.pad(images, (2, 2, 2, 2), mode="replicate"), kernel, groups=3)
    return torch.lerp(images, blurred, torch.rand(len(images), 1, 1, 1, generator=generator))


def disturbed(images: Tensor, vae: AutoencoderKL | None, generator: torch.Generator) -> Tensor:
    """A third each as it is, shifted, and shifted, blurred and noised; of all an eighth also autoencoded."""
    third = len(images) // 3
    as_is, shifted, blurred = images[:third], images[third : 2 * third], images[2 * third :]
    blurred = _blurred(_shifted(blurred, generator), generator)
    noise = torch.randn(blurred.shape, generator=generator) * 0.1
    blurred = blurred + noise * torch.rand(len(blurred), 1, 1, 1, generator=generator)
    out = torch.cat([as_is, _shifted(shifted, generator), blurred])
    if vae is not None:
        with torch.no_grad():
            latents = vae.encode(out[::8]).latent_dist.mean
            spread = torch.rand(len(latents), 1, 1, 1, generator=generator) * 0.2 * latents.std()
            latents = latents + spread * torch.randn(latents.shape, generator=generator)
            out[::8] = vae.decode(latents).sample.clamp(-1, 1)
    return out


def train(
    folder: Path, vae: AutoencoderKL, steps: int = 3000, batch_size: int = 64, lr: float = 2e-3, seed: int = 4
) -> Recogniser:
    """The trained recogniser; it meets the autoencoder's blur in the last two fifths of its steps."""
    torch.manual_seed(seed)
    recogniser = Recogniser()

    def batch(step: int) -> dict[str, Tensor]:
        scenes = training_scenes(seed, step, batch_size, anywhere=True)
        images = disturbed(as_images(scenes), vae if step > 0.6 * steps else None, generator_for(seed, step))
        return {"images": images, **labels(scenes)}

    run = Run("recogniser", RecogniserLoss(recogniser), batch, folder, steps=steps, lr=lr, average=0.99)
    run.train()
    _settle(recogniser, vae, seed, batch_size)
    return recogniser.eval().requires_grad_(False)


def _settle(recogniser: Recogniser, vae: AutoencoderKL, seed: int, batch_size: int) -> None:
    """Measure the batch norms' means and variances anew, those of the averaged weights."""
    norms = [m for m in recogniser.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over what follows
    recogniser.train()
    with torch.no_grad():
        for step in range(30):
            images = as_images(training_scenes(seed, 10_000_000 + step, batch_size, anywhere=True))
            recogniser(disturbed(images, vae, generator_for(seed, step)))


def accuracy(
    recogniser: Recogniser, scenes: list[Scene], vae: AutoencoderKL | None = None
) -> dict[str, float]:
    """Share of right answers for kind, colour, background, style; through the autoencoder if given."""
    right: dict[str, list[Tensor]] = {}
    for i in range(0, len(scenes), 100):
        part = scenes[i : i + 100]
        images = as_images(part)
        if vae is not None:
            images = vae.decode(vae.encode(images).latent_dist.mean).sample.clamp(-1, 1)
        logits, answers = recogniser(images), labels(part)
        for name, answer in answers.items():
            known = answer != -100
            hits = (logits[name].argmax(1) == answer)[known]
            right.setdefault(name.rstrip("01"), []).append(hits.float())
    return {name: torch.cat(hits).mean().item() for name, hits in right.items()}


def held_out_scenes(n: int = 2000, seed: int = 1002) -> list[Scene]:
    """Scenes that training never drew, half of them with a held-out combination."""
    dice = Dice(seed)
    return [sample_scene(dice, held_out=bool(i % 2), anywhere=True) for i in range(n)]
