"""The region that the methods of this chapter keep, and how its edge moves."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from course.core.checks import check_mask
from course.core.sampling import Intervene, Step, blend, noise_like
from course.core.schedule import CLEAN, Schedule


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
