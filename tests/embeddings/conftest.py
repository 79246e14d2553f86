"""The core's tiny model, and models whose answer to an embedding is known."""

import pytest
import torch

from course.core.schedule import Schedule
from tests.core.conftest import build, generator, sd15, tiny

__all__ = ["build", "exact", "generator", "sd15", "tiny"]


@pytest.fixture(scope="session")
def exact(sd15: Schedule) -> Schedule:
    """As sd15's; the walk ends without noise, and what the network answers is eps."""
    return Schedule(sd15.alpha_bar, final_alpha_bar=1.0)


@pytest.fixture(scope="session")
def turn() -> torch.Tensor:
    """An orthogonal matrix [8 8], so that each picture of 8 numbers has exactly one embedding."""
    drawn = torch.randn(8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return torch.linalg.qr(drawn).Q
