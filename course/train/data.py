"""Endless training pictures, drawn as they are needed."""

import torch
from torch import Tensor

from course.world.render import render_batch
from course.world.scene import Dice, Scene, sample_scene


def training_scenes(seed: int, step: int, n: int, anywhere: bool = False) -> list[Scene]:
    """The scenes of a step's batch, without held-out combinations; `seed` below 1,000.

    anywhere: in many more places, for what is to read pictures, not to draw them.
    """
    if not 0 <= seed < 1000:
        raise ValueError(f"training uses seeds 0..999, got {seed}: the others belong to tests and reports")
    dice = Dice(seed * 1_000_000_000 + step + 1_000_000)
    return [sample_scene(dice, anywhere=anywhere) for _ in range(n)]


def as_images(scenes: list[Scene]) -> Tensor:
    """Pictures of the scenes, float [n 3 64 64] in [-1, 1]."""
    return torch.from_numpy(render_batch(scenes)).permute(0, 3, 1, 2).float().contiguous() / 127.5 - 1


def images(seed: int, step: int, n: int) -> Tensor:
    """The pictures of a step's batch, with stickers anywhere."""
    return as_images(training_scenes(seed, step, n, anywhere=True))
