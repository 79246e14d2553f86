"""What is taken from a picture, for a model to give back: its colours, a part of it, its details."""

import io
from math import exp

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as JPEG has it
QUALITIES = range(5, 31)  # Palette trains on these; what it is judged on is 5, 10, 20
JPEG_SCALE = 10  # a quality's chance falls as exp(-quality / 10)


def grey(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """The pictures without colour, their luminance in all three channels."""
    weights = images.new_tensor(GREY).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True).expand_as(images).contiguous()


def jpeg(images: Float[Tensor, "b 3 h w"], quality: int | list[int]) -> Float[Tensor, "b 3 h w"]:
    """The pictures, in [-1, 1], after being stored as JPEG files of a quality in 1..95, or of one each.

    Raises ValueError for another quality, and another number of them.
    """
    qualities = [quality] * len(images) if isinstance(quality, int) else list(quality)
    if len(qualities) != len(images) or not all(1 <= q <= 95 for q in qualities):
        raise ValueError(
            f"{len(images)} pictures need one quality in 1..95, or one for each; got {qualities[:8]}"
        )
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    stored = np.stack([_stored(picture, q) for picture, q in zip(pixels, qualities, strict=True)])
    return (torch.from_numpy(stored).permute(0, 3, 1, 2).float() / 127.5 - 1).to(images)


def _stored(picture: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def draw_qualities(n: int, generator: torch.Generator) -> list[int]:
    """n of QUALITIES, a low one more often: Saharia et al. 2022, arXiv:2111.05826, section 4."""
    weights = torch.tensor([exp(-q / JPEG_SCALE) for q in QUALITIES])
    return [QUALITIES[i] for i in torch.multinomial(weights, n, True, generator=generator).tolist()]


def hole(n: int, size: int, generator: torch.Generator) -> Float[Tensor, "n 1 h w"]:
    """n masks of size x size with a part to be filled in, where they are 1.

    Palette's mixture: of ten, six are free-form strokes and four rectangles; some 10 to 40 % of the picture.
    """
    free = torch.rand(n, generator=generator) < 0.6
    return torch.stack([(_strokes if f else _rectangle)(size, generator) for f in free.tolist()])[:, None]


def border(n: int, size: int, generator: torch.Generator) -> Float[Tensor, "n 1 h w"]:
    """n masks for uncropping: 1 outside a window of half the sides, at a border or in the middle.

    Palette extends a picture on all sides, or on one.
    """
    masks = torch.ones(n, 1, size, size)
    for mask in masks:
        side = int(torch.randint(5, (1,), generator=generator))
        half, quarter = size // 2, size // 4
        if side == 4:
            mask[:, quarter : quarter + half, quarter : quarter + half] = 0
        else:
            rows = mask if side < 2 else mask.transpose(1, 2)
            rows[:, :half] = side % 2
            rows[:, half:] = 1 - side % 2
    return masks


def _rectangle(size: int, generator: torch.Generator) -> Tensor:
    mask = torch.zeros(size, size)
    h, w = (torch.randint(size * 3 // 8, size * 5 // 8 + 1, (2,), generator=generator)).tolist()
    top, left = (int(torch.randint(size - side + 1, (1,), generator=generator)) for side in (h, w))
    mask[top : top + h, left : left + w] = 1
    return mask


def _strokes(size: int, generator: torch.Generator) -> Tensor:
    """A brush walks with turns of up to a right angle, three times."""
    mask = torch.zeros(size, size)
    grid = torch.arange(size).float()
    for _ in range(3):
        x, y = (size * torch.rand(2, generator=generator)).tolist()
        angle, radius = (torch.rand(2, generator=generator) * torch.tensor([6.283, size / 16])).tolist()
        radius += size / 32
        for _ in range(size // 4):
            mask[(grid[:, None] - y) ** 2 + (grid[None] - x) ** 2 <= radius**2] = 1
            angle += float((torch.rand(1, generator=generator) - 0.5) * 1.57)
            x = (x + 2 * float(np.cos(angle))) % size
            y = (y + 2 * float(np.sin(angle))) % size
    return mask
