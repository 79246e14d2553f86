"""Pictures of any kind as plain pixels, and the whole-number enlargement they are shown at."""

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from course.figures.figure import Figure, png_url

Pixels = NDArray[np.uint8]


def to_pixels(images: Any) -> list[Pixels]:
    """Every picture in `images`, in order, as uint8 [H W 3].

    images: a tensor [b 3 H W] or [3 H W] in [-1, 1] (noise beyond it is clipped), a mask [b 1 H W] in [0, 1],
    an array uint8 or bool [b H W 3], [H W 3] or [H W], a PIL image, a Figure, or a nested sequence of these.
    Raises ValueError for any other shape or type, for no picture at all and for values that are not finite.
    """
    if isinstance(images, Figure):
        return [np.asarray(images.image())]
    if isinstance(images, Image.Image):
        return [_flat(images)]
    if isinstance(images, torch.Tensor):
        return _from_tensor(images.detach())
    if isinstance(images, np.ndarray):
        return _from_array(images)
    if isinstance(images, Iterable) and not isinstance(images, str | bytes):
        found = [pixels for each in images for pixels in to_pixels(each)]
        if not found:
            raise ValueError("there is no picture to show: the sequence is empty")
        return found
    raise ValueError(
        f"cannot show {type(images).__name__}: pass a tensor [b 3 H W], uint8 array or PIL image"
    )


def _flat(image: Image.Image) -> Pixels:
    if "A" in image.getbands():  # what is transparent shows the white page
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def _from_tensor(images: torch.Tensor) -> list[Pixels]:
    batch = images[None] if images.ndim == 3 else images
    if batch.ndim != 4 or batch.shape[1] not in (1, 3) or batch.numel() == 0:
        shape = list(images.shape)
        raise ValueError(f"pictures are [b 3 H W], masks [b 1 H W], got {shape}: decode latents first")
    values = batch.float().cpu()
    if not values.isfinite().all():
        raise ValueError("a picture holds values that are not finite: look at the step that made it")
    unit = values.expand(-1, 3, -1, -1) if batch.shape[1] == 1 else values / 2 + 0.5
    scaled = unit.clamp(0, 1).mul(255).round().to(torch.uint8)
    return list(scaled.permute(0, 2, 3, 1).contiguous().numpy())


def _from_array(images: NDArray[Any]) -> list[Pixels]:
    if images.dtype == np.bool_:
        images = images.astype(np.uint8) * np.uint8(255)
    if images.dtype != np.uint8:
        raise ValueError(
            f"an array of pictures is uint8, got {images.dtype}: pass floats as tensor [b 3 H W]"
        )
    if images.ndim == 2:
        images = np.repeat(images[..., None], 3, axis=2)
    batch = images[None] if images.ndim == 3 else images
    if batch.ndim != 4 or batch.shape[3] != 3 or batch.size == 0:
        raise ValueError(f"an array of pictures is [b H W 3], [H W 3] or [H W], got {list(images.shape)}")
    return list(batch)


def enlarged(pixels: Pixels, width: int) -> Pixels:
    """`pixels` with each made a square block, the largest whole number of them that fits `width` dots.

    A picture wider than `width` is averaged down to it instead.
    """
    factor = width // pixels.shape[1]
    if factor:
        return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    height = max(1, round(pixels.shape[0] * width / pixels.shape[1]))
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))


def side_by_side(pictures: list[Pixels], gap: int = 4) -> Pixels:
    """The pictures of one height in a row on white."""
    heights = {picture.shape[0] for picture in pictures}
    if len(heights) > 1:
        raise ValueError(f"pictures in one row need one height, got {sorted(heights)}")
    white = np.full((heights.pop(), gap, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (white, picture)]
    return np.concatenate(parts[1:], axis=1)


def png_bytes(pixels: Pixels) -> bytes:
    """PNG bytes without metadata."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def data_url(pixels: Pixels) -> str:
    """The picture as an address that needs no file and no network."""
    return png_url(png_bytes(pixels))
