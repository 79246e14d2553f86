"""The core's tiny model, and cases whose words it knows."""

from dataclasses import replace

import pytest
import torch

from course.compare.editor import Given, Settings
from course.compare.measure import Case
from course.core.model import Model
from tests.core.conftest import build, generator, tiny

__all__ = ["build", "generator", "tiny"]

QUICK = Settings(4, 3.0, {"embedding_steps": 2, "model_steps": 3, "batch": 1}, 3.0)
EDIT = ("a red car on grass", "a blue car on snow")


def picture(model: Model) -> torch.Tensor:
    size = model.image_size
    return torch.linspace(-1, 1, 3 * size * size).reshape(1, 3, size, size)


def cases_of(model: Model, n: int = 2) -> list[Case]:
    """Cases in groups of their own; the left half of each may change."""
    mask = torch.zeros(1, 1, model.image_size, model.image_size)
    mask[..., : model.image_size // 2] = 1
    given = Given(picture(model), *EDIT, "red car on snow", mask)
    return [Case(replace(given, picture=given.picture.roll(i, 3)), i, "own picture") for i in range(n)]


@pytest.fixture
def cases(tiny: Model) -> list[Case]:
    return cases_of(tiny)
