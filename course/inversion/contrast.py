"""Where two prompts disagree about a picture: DiffEdit's mask."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from course.core.checks import check_option
from course.core.sampling import Denoiser, noise_like
from course.core.schedule import Schedule
from course.core.strength import part_redone


def contrast(
    query: Denoiser,
    reference: Denoiser,
    x_0: Float[Tensor, "b c h w"],
    times: Sequence[int],
    schedule: Schedule,
    strength: float = 0.5,
    *,
    draws: int = 10,
    generator: torch.Generator | None = None,
    compat: Literal["diffusers"] | None = None,
) -> Float[Tensor, "b 1 h w"]:
    """How much two denoisers disagree about each place of x_0, |eps - eps| averaged over draws and channels.

    Couairon et al. 2023, arXiv:2210.11427, section 3.2, step 1. query, reference: of the edit's prompt and
    of the picture's own (or of the empty one), unguided. strength: x_0 is noised to the largest of `times`
    below strength * T. draws: noises to average over.
    compat: "diffusers" counts steps as int(steps * strength). It also guides both denoisers, with prompt and
    negative prompt swapped: as long as the negative prompts are equal, its contrast is this one times
    |1 - guidance_scale|.
    Raises ValueError for a strength outside (0, 1] or below all times, for draws < 1, and another compat.
    """
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < 1:
        raise ValueError(f"draws must be a whole number of 1 or more, got {draws!r}")
    check_option("compat", compat, (None, "diffusers"))
    t = part_redone(times, schedule, strength, truncate=compat == "diffusers")[0]
    total = torch.zeros_like(x_0[:, :1])
    for _ in range(draws):
        x_t = schedule.add_noise(x_0, noise_like(x_0, generator), t)
        total = total + (query(x_t, t) - reference(x_t, t)).abs().mean(1, keepdim=True)
    return total / draws


def contrast_mask(
    found: Float[Tensor, "b 1 h w"],
    threshold: float = 0.5,
    *,
    extremes: float = 0.02,
    compat: Literal["diffusers"] | None = None,
) -> Float[Tensor, "b 1 h w"]:
    """The mask, 1 = may change: where the contrast, rescaled to [0, 1] in each picture, passes the threshold.

    Section 3.2 again: extreme values are removed first. extremes: the share of the cells, at either end,
    whose contrast is cut off at that of the next; the paper names no number. No contrast, no mask: all 0.
    compat: "diffusers" divides by three times the mean contrast of the whole *batch* and has no `extremes`;
    without any contrast it lets all change.
    Raises ValueError for a threshold outside [0, 1), extremes outside [0, 0.5), and another compat.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold must be in [0, 1) of the rescaled contrast, got {threshold}")
    if not 0 <= extremes < 0.5:
        raise ValueError(f"extremes must be in [0, 0.5), the share cut off at either end, got {extremes}")
    check_option("compat", compat, (None, "diffusers"))
    if compat == "diffusers":
        top = 3 * found.mean()
        return (~(found.clamp(max=top) / top <= threshold)).to(found)
    flat = found.flatten(1).sort(1).values
    cut = int(extremes * flat.shape[1])
    low, high = (flat[:, i].view(-1, 1, 1, 1) for i in (cut, -1 - cut))
    return (found.clamp(low, high) - low > threshold * (high - low)).to(found)
