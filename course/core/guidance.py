"""Guidance makes a stronger denoiser of a predictor and two texts."""

from collections.abc import Callable
from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor

from course.core.sampling import Denoiser

Predictor = Callable[[Tensor, int, Tensor], Tensor]  # (x_t, t, text) -> eps


def classifier_free(
    predict: Predictor, text: Float[Tensor, "b n d"], null: Float[Tensor, "k n d"], guidance_scale: float
) -> Denoiser:
    """eps = eps_null + guidance_scale * (eps_text - eps_null). Ho and Salimans 2022, arXiv:2207.12598, Eq. 6.

    One call of `predict` on the rows [null, text], as diffusers stacks them; at scale 1 (no guidance) on the
    text alone. The paper's w is guidance_scale - 1. A text or null of one row serves every row of x_t.
    Raises ValueError when text and null do not fit each other or the latents, or the scale is not finite.
    """
    if not isfinite(guidance_scale):
        raise ValueError(f"guidance_scale must be finite (1 = no guidance), got {guidance_scale}")
    if text.shape[1:] != null.shape[1:]:
        raise ValueError(
            f"text {list(text.shape)} and null {list(null.shape)} must agree in tokens and width"
        )

    def denoise(x_t: Tensor, t: int) -> Tensor:
        if guidance_scale == 1:
            return predict(x_t, t, _rows(text, x_t))
        context = torch.cat([_rows(null, x_t), _rows(text, x_t)])
        eps_null, eps_text = predict(torch.cat([x_t, x_t]), t, context).chunk(2)
        return eps_null + guidance_scale * (eps_text - eps_null)

    return denoise


def _rows(text: Tensor, x_t: Tensor) -> Tensor:
    if len(text) not in (1, len(x_t)):
        raise ValueError(
            f"{len(text)} rows of text do not fit {len(x_t)} rows of latents: give one, or one for each"
        )
    return text.expand(len(x_t), -1, -1)
