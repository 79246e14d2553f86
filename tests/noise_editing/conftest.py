"""The core's tiny model and exact denoisers, and a schedule whose walk ends without noise."""

from dataclasses import replace

import pytest

from course.core.schedule import Schedule
from tests.core.conftest import gaussian, generator, sd15, tiny

__all__ = ["exact", "gaussian", "generator", "sd15", "tiny"]


@pytest.fixture(scope="session")
def exact(sd15: Schedule) -> Schedule:
    return replace(sd15, final_alpha_bar=1.0)
