"""DiffEdit: encode a picture by inversion, decode it under another prompt, keep it outside the mask."""

from collections.abc import Iterator, Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from course.core.checks import check_mask, check_option
from course.core.sampling import Denoiser, Step, blend, invert, keep_outside, last, sample
from course.core.schedule import CLEAN, Schedule
from course.core.strength import part_redone


def diffedit(
    query: Denoiser,
    encode: Denoiser,
    x_0: Float[Tensor, "b c h w"],
    mask: Float[Tensor, "#b 1 h w"],
    times: Sequence[int],
    schedule: Schedule,
    ratio: float = 0.8,
    *,
    evaluate: Literal["source", "target"] = "target",
    compat: Literal["diffusers"] | None = None,
) -> Float[Tensor, "b c h w"]:
    """x_0, edited where mask is 1 and itself elsewhere. Couairon et al. 2023, arXiv:2210.11427, section 3.2.

    query: denoiser of the edit's prompt, guided. encode: the one that inverts x_0, in the paper of the empty
    prompt, unguided; diffusers' default is the guided prompt. mask: as `contrast_mask` makes it, or drawn.
    ratio: part of the time axis that is encoded and decoded again, the paper's r, in (0, 1].
    evaluate: the time at which `encode` is asked (see course.core.sampling).
    compat: "diffusers" puts the encoded picture back one level too noisy, at the last step too, and counts
    steps as int(steps * ratio).
    Raises ValueError for a ratio outside (0, 1] or that leaves no step, and a mask of another size or not
    binary. An empty mask gives x_0 back.
    """
    return last(
        diffedit_steps(query, encode, x_0, mask, times, schedule, ratio, evaluate=evaluate, compat=compat)
    )


def diffedit_steps(
    query: Denoiser,
    encode: Denoiser,
    x_0: Float[Tensor, "b c h w"],
    mask: Float[Tensor, "#b 1 h w"],
    times: Sequence[int],
    schedule: Schedule,
    ratio: float = 0.8,
    *,
    evaluate: Literal["source", "target"] = "target",
    compat: Literal["diffusers"] | None = None,
) -> Iterator[Step]:
    """The steps of `diffedit`, to watch: the encoding, up, then the decoding, down, as many."""
    check_option("compat", compat, (None, "diffusers"))
    check_mask(mask, x_0, may_be_empty=True)
    walked = part_redone(times, schedule, ratio, truncate=compat == "diffusers", name="ratio")
    up = invert(encode, x_0, walked, schedule, evaluate)
    levels = {CLEAN: x_0}

    def noisier(step: Step) -> Tensor:
        return blend(step.x_s, levels[step.t], mask)

    keep = noisier if compat == "diffusers" else keep_outside(mask, levels)

    def walk() -> Iterator[Step]:
        for step in up:
            levels[step.s] = step.x_s
            yield step
        yield from sample(query, levels[walked[0]], walked, schedule, intervene=keep)

    return walk()
