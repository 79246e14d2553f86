"""The core's tiny model and exact denoisers, and a schedule that ends in pure noise and without any."""

from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel

from course.core.model import Model
from course.core.schedule import Schedule
from tests.core.conftest import gaussian, generator, sd15, tiny
from tests.core.tiny import as_model, tiny_pipeline

__all__ = ["full", "gaussian", "generator", "sd15", "tiny"]


def sd_shaped(dtype: torch.dtype = torch.float32) -> Model:
    """Stable Diffusion 1.5's four levels, narrow, for 4 x 32 x 32 latents; its text is 77 x 16."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=32,
            block_out_channels=(8, 16, 16, 16),
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=4,
        )
    return replace(as_model(tiny_pipeline()), unet=unet.to(dtype))


def texts(n: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Embeddings [1 77 16] that differ enough for guidance to matter."""
    draws = torch.Generator().manual_seed(5)
    return [3 * torch.randn(1, 77, 16, generator=draws).to(dtype) for _ in range(n)]


@pytest.fixture(scope="session")
def full() -> Schedule:
    """DDPM's schedule: a signal of 0.006 at the last time, none but signal at CLEAN."""
    return Schedule.from_config({"beta_schedule": "linear", "timestep_spacing": "trailing"})
