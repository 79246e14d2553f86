"""The U-Net: learns to tell the noise in a latent, given its caption."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from course.core.schedule import Schedule
from course.train.data import as_images, training_scenes
from course.train.loop import Run, generator_for
from course.train.muon import Muon
from course.train.text import captions_of, tokens
from course.world.scene import Dice

CONFIG: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 8,
    "out_channels": 8,
    "block_out_channels": (64, 96, 128),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 128,
    "attention_head_dim": 4,  # diffusers' name; for this class it is the number of heads
    "norm_num_groups": 16,
}
SCHEDULER: dict[str, Any] = {  # Stable Diffusion's, with the v prediction of 2.x
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


class DenoiserLoss(nn.Module):
    """Squared error of v = signal eps - noise x_0 (Salimans and Ho 2022, arXiv:2202.00512).

    Where the network predicts eps, the noisiest levels, which decide what is where, hardly count: eps is
    almost x_t there. Predicting v weighs the error of x_0 by SNR + 1; the SNR is cut off at 4 (min-SNR,
    arXiv:2303.09556).
    """

    alpha_bar: Tensor

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet
        self.register_buffer("alpha_bar", Schedule.from_config(SCHEDULER).alpha_bar.float())

    def forward(self, latents: Tensor, text: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        alpha_bar = self.alpha_bar[times].view(-1, 1, 1, 1)
        x_t = alpha_bar.sqrt() * latents + (1 - alpha_bar).sqrt() * noise
        v = alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * latents
        error = (self.unet(x_t, times, encoder_hidden_states=text).sample - v).square().flatten(1).mean(1)
        snr = (alpha_bar / (1 - alpha_bar)).flatten()
        return (error * (1 + snr.clamp(max=4)) / (1 + snr)).mean()


def optimizer_for(unet: UNet2DConditionModel, lr: float) -> Muon:
    """Muon for every matrix and convolution but the first and the last layers, which Adam trains."""
    ends = ("conv_in", "conv_out", "time_embedding")
    hidden = {n for n, w in unet.named_parameters() if w.ndim > 1 and not n.startswith(ends)}
    named = dict(unet.named_parameters())
    return Muon([named[n] for n in named if n in hidden], [named[n] for n in named if n not in hidden], lr)


def train(
    folder: Path,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: PreTrainedTokenizerFast,
    steps: int = 10_000,
    batch_size: int = 32,
    lr: float = 3e-3,
    seed: int = 3,
) -> UNet2DConditionModel:
    """The trained U-Net, an average over its last steps. One caption in ten is empty, for guidance."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(**CONFIG)

    def batch(step: int) -> dict[str, Tensor]:
        generator, dice = generator_for(seed, step), Dice(seed * 1_000_000_007 + step)
        drawn = training_scenes(seed, step, batch_size)
        captions = ["" if dice.chance(10) else caption for caption in captions_of(drawn, dice)]
        return {
            "images": as_images(drawn),
            "tokens": tokens(tokenizer, captions),
            "noise": torch.randn(batch_size, *latent_shape, generator=generator),
            "times": torch.randint(0, 1000, (batch_size,), generator=generator),
        }

    @torch.no_grad()
    def encode(part: dict[str, Tensor]) -> dict[str, Tensor]:
        latents = vae.encode(part.pop("images")).latent_dist.mean * vae.config.scaling_factor
        text = text_encoder(part.pop("tokens")).last_hidden_state
        latents = latents.contiguous(memory_format=torch.channels_last)  # a tenth faster on a CPU
        return {"latents": latents, "text": text, **part}

    latent_shape = (CONFIG["in_channels"], CONFIG["sample_size"], CONFIG["sample_size"])
    run = Run(
        "denoiser",
        DenoiserLoss(unet),
        batch,
        folder,
        steps=steps,
        lr=lr,
        optimizer=optimizer_for(unet, lr),
        prepare=encode,
    )
    vae.to(run.accelerator.device)
    text_encoder.to(run.accelerator.device)
    run.train()
    vae.cpu()
    text_encoder.cpu()
    return unet.cpu().eval().requires_grad_(False)
