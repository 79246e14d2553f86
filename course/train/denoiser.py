"""The U-Net and its text encoder: learn to tell the noise in a latent, given its caption."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from course.core.schedule import Schedule
from course.train.data import as_images, training_scenes
from course.train.loop import Run, generator_for
from course.train.muon import muon_for
from course.train.text import captions_of, make_text_encoder, tokens
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
ENDS = ("unet.conv_in", "unet.conv_out", "unet.time_embedding", "text_encoder.embeddings")
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


def v_loss(
    unet: nn.Module, alpha_bar: Tensor, latents: Tensor, text: Tensor, noise: Tensor, times: Tensor
) -> Tensor:
    """Squared error of v = signal eps - noise x_0 (Salimans and Ho 2022, arXiv:2202.00512), its mean.

    Where the network predicts eps, the noisiest levels, which decide what is where, hardly count: eps is
    almost x_t there. Predicting v weighs the error of x_0 by SNR + 1; the SNR is cut off at 4 (min-SNR,
    arXiv:2303.09556).
    """
    alpha_bar = alpha_bar[times].view(-1, 1, 1, 1)
    x_t = alpha_bar.sqrt() * latents + (1 - alpha_bar).sqrt() * noise
    v = alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * latents
    error = (unet(x_t, times, encoder_hidden_states=text).sample - v).square().flatten(1).mean(1)
    snr = (alpha_bar / (1 - alpha_bar)).flatten()
    return (error * (1 + snr.clamp(max=4)) / (1 + snr)).mean()


class DenoiserLoss(nn.Module):
    """`v_loss`, of what the text encoder makes of the tokens.

    The text encoder learns with the U-Net, as in latent diffusion's own text-to-image model (Rombach et al.
    2022, arXiv:2112.10752, section 3.3). The course's CLIP tells kinds apart far less than colours at the
    tokens that name them: with its text encoder the U-Net was slower to learn what a kind looks like.
    """

    alpha_bar: Tensor

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder
        self.register_buffer("alpha_bar", Schedule.from_config(SCHEDULER).alpha_bar.float())

    def forward(self, latents: Tensor, tokens: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        text = self.text_encoder(tokens).last_hidden_state
        return v_loss(self.unet, self.alpha_bar, latents, text, noise, times)


def train(
    folder: Path,
    vae: AutoencoderKL,
    tokenizer: PreTrainedTokenizerFast,
    steps: int = 5_500,
    batch_size: int = 32,
    lr: float = 3e-3,
    seed: int = 3,
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """The U-Net and its text encoder, averages over their last steps.

    One caption in ten is empty, for guidance.
    """
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(**CONFIG)
    model = DenoiserLoss(unet, make_text_encoder())

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
        latents = latents.contiguous(memory_format=torch.channels_last)  # a tenth faster on a CPU
        return {"latents": latents, **part}

    latent_shape = (CONFIG["in_channels"], CONFIG["sample_size"], CONFIG["sample_size"])
    run = Run(
        "denoiser",
        model,
        batch,
        folder,
        steps=steps,
        lr=lr,
        optimizer=muon_for(model, lr, ENDS),
        prepare=encode,
    )
    vae.to(run.accelerator.device)
    run.train()
    vae.cpu()
    model.cpu().eval().requires_grad_(False)
    return model.unet, model.text_encoder
