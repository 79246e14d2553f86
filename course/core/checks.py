"""Refusals that many methods share."""

from collections.abc import Sequence

from torch import Tensor

from course.core.sampling import blend


def check_noise(picture: Tensor, noise: Tensor) -> None:
    """Raise ValueError unless both are floating point and of one shape [b c h w], not empty."""
    if picture.ndim != 4 or picture.shape != noise.shape or picture.numel() == 0:
        raise ValueError(
            f"picture and noise must have one shape [b c h w], got {list(picture.shape)} and "
            f"{list(noise.shape)}: noise_like(picture, generator) draws the noise"
        )
    if not (picture.is_floating_point() and noise.is_floating_point()):
        raise ValueError(
            f"picture and noise must be floating point, got {picture.dtype} and {noise.dtype}: read_image "
            "and model.encode give such a picture"
        )


def check_mask(mask: Tensor, picture: Tensor, *, may_be_empty: bool = False) -> None:
    """Raise ValueError unless the mask fits the picture, holds 0 and 1 only, and lets something change."""
    blend(picture, picture, mask)  # refuses another size
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError(
            f"the mask must hold 0 and 1 only (1 = may change), got {float(mask.min()):.3g} to "
            f"{float(mask.max()):.3g}: read_mask makes one, or (mask > 0.5).float()"
        )
    if not (may_be_empty or mask.flatten(1).any(dim=1).all()):
        raise ValueError("the mask is empty, so nothing may change: set it to 1 where the edit belongs")


def check_option(name: str, value: object, known: Sequence[object]) -> None:
    """Raise ValueError unless the value is one of those known."""
    if value not in known:
        raise ValueError(f"{name} must be one of {list(known)}, got {value!r}")
