"""The autoencoder: 64 x 64 pixels to 16 x 16 latents and back."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from course.train.data import as_images, images
from course.train.loop import Run
from course.world.scene import scenes

CONFIG = {
    "sample_size": 64,
    "latent_channels": 8,
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (16, 32, 64),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "mid_block_add_attention": False,  # attention over the picture cost more than it gave
}


class AutoencoderLoss(nn.Module):
    """How far the decoded pictures are from the given ones, and how far the latents from a unit Gaussian."""

    def __init__(self, vae: AutoencoderKL, kl_weight: float = 1e-3) -> None:
        super().__init__()
        self.vae, self.kl_weight = vae, kl_weight

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        posterior = self.vae.encode(images).latent_dist
        out = self.vae.decode(posterior.mean + posterior.std * noise).sample
        error = out - images
        across, down = error.diff(dim=-1), error.diff(dim=-2)  # errors in edges are seen as blur
        sharpness = across.abs().mean() + down.abs().mean()
        kl = posterior.kl().mean() / images[0].numel()
        return error.abs().mean() + 2 * error.square().mean() + 0.25 * sharpness + self.kl_weight * kl


def train(
    folder: Path, steps: int = 6000, batch_size: int = 8, lr: float = 2e-3, seed: int = 1
) -> AutoencoderKL:
    """The trained autoencoder, each channel of whose latents has mean 0 and standard deviation 1."""
    torch.manual_seed(seed)
    vae = AutoencoderKL(**CONFIG)

    def batch(step: int) -> dict[str, Tensor]:
        pictures = images(seed, step, batch_size)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        return {"images": pictures, "noise": torch.randn(batch_size, 8, 16, 16, generator=generator)}

    Run("autoencoder", AutoencoderLoss(vae), batch, folder, steps=steps, lr=lr, weight_decay=0.0).train()
    vae.eval().requires_grad_(False)
    standardise(vae, images(seed, steps + 1, 512))
    return vae


def standardise(vae: AutoencoderKL, sample: Tensor) -> None:
    """Give each latent channel mean 0 and standard deviation 1 on the sample; decoded pictures stay the same.

    The 1 x 1 convolutions on either side of the latents absorb the change; the scaling factor becomes 1.
    """
    latents = vae.encode(sample).latent_dist.mean
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    out, back, channels = vae.quant_conv, vae.post_quant_conv, len(mean)
    with torch.no_grad():
        back.bias += (back.weight[:, :, 0, 0] * mean).sum(1)
        back.weight *= std[None, :, None, None]
        out.weight[:channels] /= std[:, None, None, None]
        out.bias[:channels] = (out.bias[:channels] - mean) / std
        out.bias[channels:] -= 2 * std.log()  # the second half is the logarithm of the variance
    vae.register_to_config(scaling_factor=1.0)


def psnr(vae: AutoencoderKL, seed: int = 1001, n: int = 1024) -> float:
    """Decibels of mean squared error over `n` scenes that training never saw."""
    total = 0.0
    for i in range(0, n, 64):
        x = as_images(list(scenes(seed + i, 64, held_out=None, anywhere=True)))
        total += (
            vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1) - x
        ).square().mean().item() * 64
    return float(10 * torch.log10(torch.tensor(4 * n / total)))
