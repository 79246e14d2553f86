"""A picture inverted without guidance: the latents that a guided walk is to pass through again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from course.core.guidance import Predictor, classifier_free
from course.core.sampling import Denoiser, Step, invert, sample
from course.core.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Inverted:
    """Pictures, inverted so that a guided walk leads back to them: see `null_text` and `negative_prompt`.

    pivot: by time, falling and down to the last, the latents [b c h w] that the walk is to pass through.
    nulls: by time, all but the last, the embedding [b n d] (or of one row for all) that stands for no prompt.
    """

    pivot: Mapping[int, Tensor]
    nulls: Mapping[int, Tensor]
    guidance_scale: float

    def denoiser(self, predict: Predictor, text: Float[Tensor, "k n d"]) -> Denoiser:
        """The guided denoiser (x_t, t) -> eps of a prompt, with the null embedding of each time.

        text: of the source prompt, which leads back to the picture, or of another, which edits it.
        At a time that was not inverted the denoiser raises ValueError.
        """

        def denoise(x_t: Tensor, t: int) -> Tensor:
            if t not in self.nulls:
                raise ValueError(f"no null embedding for time {t}: there are some at {list(self.nulls)}")
            return classifier_free(predict, text, self.nulls[t].to(text), self.guidance_scale)(x_t, t)

        return denoise

    def sample(self, predict: Predictor, text: Float[Tensor, "k n d"], schedule: Schedule) -> Iterator[Step]:
        """The steps from the pictures' noise to what `text` makes of them."""
        times = list(self.pivot)
        return sample(self.denoiser(predict, text), self.pivot[times[0]], times, schedule)


def pivotal(
    predict: Predictor,
    x_0: Float[Tensor, "b c h w"],
    text: Float[Tensor, "k n d"],
    times: Sequence[int],
    schedule: Schedule,
    evaluate: Literal["target", "source"] = "target",
) -> dict[int, Tensor]:
    """The latents of DDIM inversion without guidance, by time, from times[0] down to x_0 at times[-1].

    Mokady et al. 2023, arXiv:2211.09794, section 3.2. x_0: the latents' mean, as `model.encode` gives it
    without a generator. text: of a prompt that tells what is to be seen. evaluate: as for `invert`.
    """
    with torch.no_grad():
        up = list(invert(classifier_free(predict, text, text, 1.0), x_0, times, schedule, evaluate))
    return {step.s: step.x_s for step in reversed(up)} | {times[-1]: x_0}


def negative_prompt(
    predict: Predictor,
    x_0: Float[Tensor, "b c h w"],
    text: Float[Tensor, "k n d"],
    times: Sequence[int],
    schedule: Schedule,
    guidance_scale: float = 7.5,
) -> Inverted:
    """Negative-prompt inversion: the source text stands for no prompt. Miyake et al. 2023, arXiv:2305.16807.

    Nothing is optimised. On the way back to the picture guidance cancels; what inversion lost stays lost.
    """
    pivot = pivotal(predict, x_0, text, times, schedule)
    return Inverted(pivot, dict.fromkeys(list(pivot)[:-1], text), guidance_scale)
