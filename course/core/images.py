"""Pictures in and out: whatever people have becomes [1 3 size size] in [-1, 1], and back."""

import io
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

Source = str | Path | bytes | Image.Image | np.ndarray | Tensor

MAX_PIXELS = 64_000_000
FORMATS = (
    "PNG",
    "JPEG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
    "PPM",
)  # among others, EPS would start another program


def read_image(source: Source, size: int | None = None) -> Float[Tensor, "1 3 size size"]:
    """The picture's centre square in [-1, 1], size pixels wide; None keeps the square's own width.

    source: a path, a file's bytes, a PIL image, an array [H W], [H W 3] or [H W 4] of uint8 or of floats in
    [0, 1], or a tensor [3 H W] or [1 3 H W] in [-1, 1]. EXIF rotation is applied, transparency becomes white,
    the first frame of an animation is taken. Eight bits a channel, except for a tensor that needs no cutting.
    Raises FileNotFoundError for a missing file, ValueError for a broken or empty one, or above 64 megapixels.
    """
    if isinstance(source, Tensor):
        source = _batch_of_one(source)
        if source.shape[2] == source.shape[3] == (size or source.shape[2]):
            return source.float()
        source = to_pil(source)[0]
    picture = _rgb(_opened(source), background=255)
    pixels = np.array(_square(picture, size, Image.Resampling.LANCZOS))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1


def to_pil(images: Float[Tensor, "b 3 H W"]) -> list[Image.Image]:
    """One 8-bit RGB picture for each image, clipped to [-1, 1]. Raises ValueError for values not finite."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be [b 3 H W] in [-1, 1], got {list(images.shape)}")
    if not images.isfinite().all():
        raise ValueError(
            "the images hold values that are not finite: the latents overflowed, try dtype float32"
        )
    pixels = ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to("cpu", torch.uint8)
    return [Image.fromarray(one) for one in pixels.permute(0, 2, 3, 1).contiguous().numpy()]


def read_mask(source: Source, size: int | None = None) -> Float[Tensor, "1 1 size size"]:
    """1 where the picture is lighter than middle grey (may change), else 0; cut and scaled like an image.

    source: as for `read_image`, in grey or colour; transparent counts as black. Arrays and tensors may be
    boolean; a tensor is [H W], [1 H W] or [1 1 H W] in [0, 1].
    Raises as `read_image` does, and ValueError for a uint8 array of 0 and 1, which would be black all over.
    """
    if isinstance(source, Tensor):
        source = _mask_array(source)
    if isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.size and source.max() == 1:
        raise ValueError("a uint8 mask runs from 0 to 255, this one from 0 to 1: pass mask.astype(bool)")
    grey = _rgb(_opened(source), background=0).convert("L")
    pixels = np.array(
        _square(grey, size, Image.Resampling.BOX)
    )  # BOX: the mean where it shrinks, nearest where it grows
    return torch.from_numpy(pixels >= 128).float()[None, None]


def shrink_mask(
    mask: Float[Tensor, "b 1 H W"], height: int, width: int, mode: Literal["any", "nearest"] = "any"
) -> Float[Tensor, "b 1 {height} {width}"]:
    """The mask for latents of height x width cells.

    mode: "any" lets a cell change if any of its pixels may; "nearest" reads one pixel a cell, as diffusers'
    inpainting does, and so loses thin strokes.
    """
    if mask.ndim != 4 or mask.shape[1] != 1:
        raise ValueError(f"the mask must be [b 1 H W], got {list(mask.shape)}: read_mask makes one")
    if not (1 <= height <= mask.shape[2] and 1 <= width <= mask.shape[3]):
        raise ValueError(f"a mask of {mask.shape[2]}x{mask.shape[3]} cannot shrink to {height}x{width}")
    if mode not in ("any", "nearest"):
        raise ValueError(f'mode must be "any" or "nearest", got {mode!r}')
    return (
        F.adaptive_max_pool2d(mask, (height, width))
        if mode == "any"
        else F.interpolate(mask, (height, width))
    )


def _opened(source: Any) -> Image.Image:
    """The decoded, upright picture."""
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _decoded(source, "the picture")
    if isinstance(source, bytes):
        return _decoded(io.BytesIO(source), f"the {len(source)} bytes")
    if not isinstance(source, str | Path):
        kind = type(source).__name__
        raise ValueError(f"a picture is a path, bytes, a PIL image, an array or a tensor, got {kind}")
    try:
        with Path(source).open("rb") as file:
            return _decoded(file, str(source))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no picture at {source}") from error
    except OSError as error:
        raise ValueError(f"{source} cannot be read as a file: {error.strerror}") from error


def _decoded(source: Any, name: str) -> Image.Image:
    """The picture of an open file, or a PIL image, which may not be decoded yet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are refused here, and of odd metadata
            picture = source if isinstance(source, Image.Image) else Image.open(source, formats=FORMATS)
            _check_size(*picture.size)
            picture.load()
            return ImageOps.exif_transpose(picture)
    except _WrongSize:
        raise
    except Image.DecompressionBombError as error:
        raise _WrongSize(
            f"{name} exceeds {MAX_PIXELS // 10**6} megapixels ({error}): scale it down"
        ) from error
    except Exception as error:  # a decoder meets broken bytes with any exception whatever
        raise ValueError(f"{name} cannot be read as a picture ({', '.join(FORMATS)}): {error}") from error


class _WrongSize(ValueError):
    pass


def _check_size(width: int, height: int) -> None:
    """Refuse before decoding: a file of a few kilobytes may declare gigapixels."""
    if not 0 < width * height <= MAX_PIXELS:
        limit = f"from 1 pixel to {MAX_PIXELS // 10**6} megapixels"
        raise _WrongSize(f"a picture has {limit}, got {width}x{height}: scale it down, or choose another")


def _from_array(array: np.ndarray) -> Image.Image:
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(f"an array must be [H W], [H W 3] or [H W 4], got {list(array.shape)}")
    _check_size(array.shape[1], array.shape[0])
    if array.dtype == bool:
        array = array * np.uint8(255)
    elif np.issubdtype(array.dtype, np.floating):
        if not ((array >= 0) & (array <= 1)).all():
            raise ValueError(f"a float array must lie in [0, 1], got {array.min():.3g}..{array.max():.3g}")
        array = np.rint(array * 255.0).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ValueError(f"an array must be uint8 in 0..255 or float in [0, 1], got {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(array))


def _rgb(picture: Image.Image, background: int) -> Image.Image:
    """Three channels of 8 bits, laid on a background of that grey where the picture is transparent."""
    if picture.mode.startswith("I;16"):
        return Image.fromarray(np.rint(np.asarray(picture) / 257.0).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):
        raise ValueError(
            f"a picture of mode {picture.mode!r} states no range: convert it to 'L' or 'RGB' first"
        )
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    return Image.alpha_composite(
        Image.new("RGBA", picture.size, (background,) * 3 + (255,)), picture
    ).convert("RGB")


def _square(picture: Image.Image, size: int | None, resample: Image.Resampling) -> Image.Image:
    if size is not None and not 1 <= size <= MAX_PIXELS**0.5:
        raise ValueError(f"size must be in 1..{int(MAX_PIXELS**0.5)} pixels, got {size}")
    side = min(picture.size)
    left, top = ((extent - side) // 2 for extent in picture.size)
    picture = picture.crop((left, top, left + side, top + side))
    return picture if size in (None, side) else picture.resize((size, size), resample)


def _batch_of_one(image: Tensor) -> Tensor:
    image = image[None] if image.ndim == 3 else image
    if image.ndim != 4 or image.shape[:2] != (1, 3) or 0 in image.shape or not image.is_floating_point():
        raise ValueError(
            f"a tensor must be float [3 H W] or [1 3 H W], got {image.dtype} {list(image.shape)}"
        )
    if not ((image >= -1) & (image <= 1)).all():
        raise ValueError(
            f"a tensor must lie in [-1, 1], got {image.min():.3g}..{image.max():.3g}: use x / 127.5 - 1"
        )
    return image


def _mask_array(mask: Tensor) -> np.ndarray:
    if mask.ndim < 2 or any(extent != 1 for extent in mask.shape[:-2]):
        raise ValueError(f"a mask tensor must be [H W], [1 H W] or [1 1 H W], got {list(mask.shape)}")
    mask = mask.detach().reshape(mask.shape[-2:]).cpu()
    return (mask if mask.dtype == torch.bool else mask.float()).numpy()
