"""What the methods of this chapter share: the part of a walk that is redone, and the region that is kept."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from course.core.sampling import Intervene, Step, blend, noise_like
from course.core.schedule import CLEAN, Schedule


def part_redone(
    times: Sequence[int], schedule: Schedule, strength: float, truncate: bool = False
) -> list[int]:
    """The times below strength * T, on the time axis 0..T of the schedule.

    truncate: the last int(steps * strength) times, as in diffusers, where rounding can cost a step:
    int(50 * 0.29) is 14.
    Raises ValueError for strength outside (0, 1], for a strength that leaves no step, and unless times fall.
    """
    if len(times) < 2 or any(t <= s for t, s in pairwise(times)):
        raise ValueError(
            f"times must be at least two and fall, as schedule.times(steps) does; got {list(times)[:8]}"
        )
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be in (0, 1] (1 redoes the whole walk), got {strength}")
    steps = len(times) - 1
    if truncate:
        left = min(int(steps * strength), steps)
    else:
        # The rounding keeps 0.07 * 1000 = 70.00000000000001 from letting time 70 in.
        left = sum(t < round(strength * len(schedule.alpha_bar), 6) for t in times[:-1])
    if left == 0:
        raise ValueError(
            f"strength {strength} leaves none of {steps} steps: raise the strength, or take more steps"
        )
    return list(times[steps - left :])


def noised_outside(
    mask: Tensor,
    known: Tensor,
    schedule: Schedule,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    level: Literal["right", "before"] = "right",
) -> Intervene:
    """An `intervene` that puts the noised `known` where mask is 0, and in the end `known` itself.

    noise: one noise for all levels; None draws a fresh one for each.
    level: "right" is the level s just reached; "before" is t, one step too noisy, at the last step too.
    """

    def intervene(step: Step) -> Tensor:
        time = step.s if level == "right" else step.t
        if time == CLEAN:
            return blend(step.x_s, known, mask)
        eps = noise_like(known, generator) if noise is None else noise
        return blend(step.x_s, schedule.add_noise(known, eps, time), mask)

    return intervene


def shrinking(mask: Tensor, times: Sequence[int], dilations: int) -> dict[int, Tensor]:
    """The mask for each time but the last: grown by `dilations` cells at first, and by ever fewer, to none.

    The walk is cut in equal parts. Blended Latent Diffusion, section 4: under a thin mask, the steps that lay
    out the picture have no room to draw.
    Raises ValueError unless dilations are in 0 .. steps - 1.
    """
    steps = len(times) - 1
    if isinstance(dilations, bool) or not isinstance(dilations, int) or not 0 <= dilations < steps:
        raise ValueError(
            f"dilations must be a whole number in 0..{steps - 1}, fewer than the steps, got {dilations!r}"
        )
    grown = [dilate(mask, cells) for cells in range(dilations, -1, -1)]
    return {t: grown[i * len(grown) // steps] for i, t in enumerate(times[:-1])}


def dilate(mask: Tensor, cells: int) -> Tensor:
    """The mask [b 1 h w], grown by so many cells to every side, corners included."""
    return F.max_pool2d(mask.float(), 2 * cells + 1, stride=1, padding=cells).to(mask)


def paste(
    edited: Float[Tensor, "b 3 H W"], source: Float[Tensor, "#b 3 H W"], mask: Tensor, soften: int = 0
) -> Float[Tensor, "b 3 H W"]:
    """The edit inside the mask, the source's own pixels outside, which the autoencoder had changed.

    soften: pixels inside the mask's edge over which the source passes into the edit; 0 is a hard edge.
    Raises ValueError for a mask that does not fit, is not binary, or empty.
    """
    if isinstance(soften, bool) or not isinstance(soften, int) or soften < 0:
        raise ValueError(f"soften must be a whole number of pixels, 0 or more, got {soften!r}")
    check_mask(mask, edited)
    eroded = [1 - dilate(1 - mask.float(), pixels) for pixels in range(soften + 1)]
    return blend(edited, source, torch.stack(eroded).mean(0))


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


def check_mask(mask: Tensor, picture: Tensor) -> None:
    """Raise ValueError unless the mask fits the picture, holds 0 and 1 only, and lets something change."""
    blend(picture, picture, mask)  # refuses another size
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError(
            f"the mask must hold 0 and 1 only (1 = may change), got {float(mask.min()):.3g} to "
            f"{float(mask.max()):.3g}: read_mask makes one, or (mask > 0.5).float()"
        )
    if not mask.flatten(1).any(dim=1).all():
        raise ValueError("the mask is empty, so nothing may change: set it to 1 where the edit belongs")


def check_option(name: str, value: object, known: Sequence[object]) -> None:
    """Raise ValueError unless the value is one of those known."""
    if value not in known:
        raise ValueError(f"{name} must be one of {list(known)}, got {value!r}")
