"""The U-Net: learns to tell the noise in a latent, given its caption."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from course.core.schedule import Schedule
from course.core.training import denoising_loss
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
SCHEDULER: dict[str, Any] = {  # Stable Diffusion 1.5's
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


class DenoiserLoss(nn.Module):
    """DDPM's loss with min-SNR-5 weights."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet
        self.schedule = Schedule.from_config(SCHEDULER)

    def forward(self, latents: Tensor, text: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        def predict(x_t: Tensor, t: Any, text: Tensor) -> Tensor:
            return self.unet(x_t, t, encoder_hidden_states=text).sample

        return denoising_loss(predict, self.schedule, latents, text, noise, times, snr_gamma=5.0)


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
