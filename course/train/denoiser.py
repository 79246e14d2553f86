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
from course.train.text import captions_of, tokens
from course.world.scene import Dice

CONFIG: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 8,
    "out_channels": 8,
    "block_out_channels": (64, 96),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
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


def train(
    folder: Path,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: PreTrainedTokenizerFast,
    steps: int = 12_000,
    batch_size: int = 16,
    lr: float = 1e-3,
    seed: int = 3,
) -> UNet2DConditionModel:
    """The trained U-Net, an average over its last steps. One caption in ten is empty, for guidance."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(**CONFIG)

    def batch(step: int) -> dict[str, Tensor]:
        generator, dice = generator_for(seed, step), Dice(seed * 1_000_000_007 + step)
        drawn = training_scenes(seed, step, batch_size)
        captions = ["" if dice.chance(10) else caption for caption in captions_of(drawn, dice)]
        with torch.no_grad():
            x_0 = vae.encode(as_images(drawn)).latent_dist.mean * vae.config.scaling_factor
            text = text_encoder(tokens(tokenizer, captions)).last_hidden_state
        return {
            "latents": x_0,
            "text": text,
            "noise": torch.randn(x_0.shape, generator=generator),
            "times": torch.randint(0, 1000, (batch_size,), generator=generator),
        }

    Run("denoiser", DenoiserLoss(unet), batch, folder, steps=steps, lr=lr, average=0.999).train()
    return unet.eval().requires_grad_(False)
