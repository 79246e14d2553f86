"""Blurred pictures whose sharp originals are known: the camera moved, or was out of focus."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from course.world.render import render_batch
from course.world.scene import Dice, scenes
from course.world.vocabulary import check

KINDS = ("gaussian", "motion")
WIDTH = 17  # of every kernel, in pixels
GRAIN = 0.02  # standard deviation of the camera's noise, pixels in [-1, 1]


@dataclass(frozen=True)
class Blur:
    """What blurred a picture.

    gaussian: out of focus; size is the standard deviation, in pixels. motion: the camera moved; size is the
    length of its way in pixels, angle its direction in degrees, bend how much the direction turns on the way.
    Raises ValueError for another kind, and a size outside (0, 4] for gaussian, [1, 15] for motion.
    """

    kind: str
    size: float
    angle: float = 0.0
    bend: float = 0.0

    def __post_init__(self) -> None:
        check(self.kind, KINDS, "a blur")
        low, high = (0.0, 4.0) if self.kind == "gaussian" else (1.0, 15.0)
        if not (low <= self.size <= high and self.size > 0):
            raise ValueError(
                f"the size of a {self.kind} blur must lie in {low:g}..{high:g} pixels, got {self.size}"
            )


def sample_blur(dice: Dice) -> Blur:
    """A random blur: in two of five out of focus by 0.8 to 1.8 pixels, else moved by 3 to 9 pixels."""
    if dice.chance(40):
        return Blur("gaussian", dice.between(80, 180) / 100)
    return Blur("motion", dice.between(30, 90) / 10, dice.below(180), dice.between(-60, 60))


def kernel(blur: Blur) -> Float[Tensor, "17 17"]:
    """The blur's kernel: not negative, its sum 1, its centre of mass in the middle."""
    middle = WIDTH // 2
    if blur.kind == "gaussian":
        axis = torch.arange(WIDTH, dtype=torch.float64) - middle
        line = torch.exp(-(axis**2) / (2 * blur.size**2))
        drawn = line[:, None] * line
    else:
        drawn = _splat(_way(blur) + middle)
    return (drawn / drawn.sum()).float()


def _way(blur: Blur, points: int = 65) -> Tensor:
    """(row, column) of a camera that moves evenly while it turns, centred, [points 2]."""
    turned = np.linspace(-blur.bend / 2, blur.bend / 2, points) + blur.angle
    steps = [(-sin(a * pi / 180), cos(a * pi / 180)) for a in turned]
    way = torch.tensor(steps, dtype=torch.float64).cumsum(0) * (blur.size / points)
    return way - way.mean(0)


def _splat(points: Tensor) -> Tensor:
    """Each point's weight shared by the four pixels around it."""
    drawn = torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
    corner = points.floor().long()
    part = points - corner
    for down in (0, 1):
        for right in (0, 1):
            row, column = corner[:, 0] + down, corner[:, 1] + right
            share = (part[:, 0] if down else 1 - part[:, 0]) * (part[:, 1] if right else 1 - part[:, 1])
            drawn.index_put_((row, column), share, accumulate=True)
    return drawn


def blurred(
    images: Float[Tensor, "b 3 h w"], blurs: Sequence[Blur], noise: Float[Tensor, "b 3 h w"] | None = None
) -> Float[Tensor, "b 3 h w"]:
    """Each picture under its own blur, mirrored at its edges, plus GRAIN times `noise` (unit, or none).

    Raises ValueError unless there is one blur for each picture.
    """
    if len(images) != len(blurs):
        raise ValueError(f"{len(blurs)} blurs for {len(images)} pictures: give one for each")
    weights = torch.stack([kernel(blur) for blur in blurs]).to(images)
    edge = WIDTH // 2
    rows = F.pad(images, (edge,) * 4, mode="reflect").transpose(0, 1)  # the channels are the batch
    out = F.conv2d(rows, weights[:, None], groups=len(blurs)).transpose(0, 1)
    return out if noise is None else out + GRAIN * noise


def blurred_scenes(
    seed: int, n: int, anywhere: bool = True
) -> tuple[Float[Tensor, "n 3 64 64"], Float[Tensor, "n 3 64 64"], list[Blur]]:
    """n sharp pictures, the same blurred, and their blurs; the same for the same seed on every machine.

    anywhere: as in `course.world.scenes`. Lessons and tests use seeds from 1,000 up.
    """
    drawn, dice = list(scenes(seed, n, anywhere=anywhere)), Dice(seed + 1_000_000_007)
    sharp = torch.from_numpy(render_batch(drawn)).permute(0, 3, 1, 2).float().contiguous() / 127.5 - 1
    blurs = [sample_blur(dice) for _ in range(n)]
    noise = torch.from_numpy(np.random.default_rng(seed).standard_normal(sharp.shape, dtype=np.float32))
    return sharp, blurred(sharp, blurs, noise), blurs
