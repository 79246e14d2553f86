"""The tiny model, on disk and in memory, and exact denoisers."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import Tensor

from course.core.model import Model
from course.core.schedule import Schedule
from tests.core.tiny import SD15, as_model, tiny_pipeline

# A busy machine is slow, not wrong.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def tiny() -> Model:
    return as_model(tiny_pipeline())


@pytest.fixture(scope="session")
def build() -> Callable[..., Model]:
    """Builds the tiny model with a changed scheduler config."""
    return lambda **scheduler: as_model(tiny_pipeline(**scheduler))


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pipeline on disk, in fp16 as shipped weights are. Copy it before breaking it."""
    path = tmp_path_factory.mktemp("checkpoint")
    tiny_pipeline().to(dtype=torch.float16).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def sd15() -> Schedule:
    return Schedule.from_config(SD15)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def gaussian() -> Callable[..., Callable[[Tensor, int], Tensor]]:
    """gaussian(schedule, mean, std): the exact denoiser when the data are N(mean, std^2)."""

    def make(schedule: Schedule, mean: float, std: float) -> Callable[[Tensor, int], Tensor]:
        def denoise(x: Tensor, t: int) -> Tensor:
            a, n = schedule.signal(t), schedule.noise(t)
            return n * (x - a * mean) / (a * a * std * std + n * n)

        return denoise

    return make
