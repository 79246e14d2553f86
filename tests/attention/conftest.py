"""The core's tiny model and exact denoisers, and a U-Net of Stable Diffusion's shape with texts for it."""

from tests.core.conftest import build, gaussian, generator, sd15, tiny
from tests.inversion.conftest import sd_shaped, texts

__all__ = ["build", "gaussian", "generator", "sd15", "sd_shaped", "texts", "tiny"]
