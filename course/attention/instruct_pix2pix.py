"""InstructPix2Pix: a network that sees the picture and reads what to do with it."""

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from math import isfinite
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course.core.checks import check_option
from course.core.sampling import Denoiser, noise_like
from course.core.schedule import Schedule
from course.core.training import Progress, denoising_loss, fit
from course.core.tuning import check_trainable, training

Pair = tuple[Tensor, Tensor, Tensor]  # before [b c h w] as `encode_image` gives it, after [b c h w], text


def use_instruct_pix2pix(
    unet: nn.Module,
    image: Float[Tensor, "#b c h w"],
    text: Float[Tensor, "#b n d"],
    null: Float[Tensor, "#b n d"],
    schedule: Schedule,
    guidance_scale: float = 7.5,
    image_guidance_scale: float = 1.5,
    *,
    compat: Literal["diffusers"] | None = None,
) -> Denoiser:
    """A denoiser that does to the picture what the text says. Brooks et al. 2023, arXiv:2211.09800, Eq. 3.

        eps(0, 0) + image_guidance_scale * (eps(image, 0) - eps(0, 0))
                  + guidance_scale * (eps(image, text) - eps(image, 0))

    Sample with it from pure noise; nothing is inverted. A larger image_guidance_scale keeps more of the
    picture, a larger guidance_scale does more of the edit; at 1 and 1 one call on image and text is all.
    unet: reads x_t and the picture side by side, as `widen` makes it and training fills it.
    image: the picture's latents as `encode_image` gives them. "No image" is zero latents.
    text, null: the instruction's embedding, and that of "". One row of image or text serves all of x_t.
    compat: "diffusers" guides not at all unless guidance_scale > 1 and image_guidance_scale >= 1.
    Raises ValueError for a scale that is not finite, texts that do not fit each other, a U-Net or rows that
    do not fit the image.
    """
    _check(unet, image, text, null, guidance_scale, image_guidance_scale)
    check_option("compat", compat, (None, "diffusers"))
    guided = (guidance_scale, image_guidance_scale) != (1, 1)
    if compat == "diffusers":
        guided = guidance_scale > 1 and image_guidance_scale >= 1

    def denoise(x_t: Tensor, t: int) -> Tensor:
        seen, told, untold = (_rows(each, x_t) for each in (image, text, null))
        if not guided:
            return beside(unet, seen, schedule)(x_t, t, told)
        images = torch.cat([seen, seen, torch.zeros_like(seen)])  # as diffusers stacks them
        texts = torch.cat([told, untold, untold])
        eps = beside(unet, images, schedule)(torch.cat([x_t] * 3), t, texts)
        eps_both, eps_image, eps_none = eps.chunk(3)
        keep, edit = eps_image - eps_none, eps_both - eps_image
        return eps_none + image_guidance_scale * keep + guidance_scale * edit

    return denoise


def fit_instruct_pix2pix(
    unet: nn.Module,
    pairs: Iterable[Pair],
    null: Float[Tensor, "1 n d"],
    schedule: Schedule,
    *,
    lr: float = 1e-4,
    dropout: float = 0.05,
    generator: torch.Generator | None = None,
) -> Iterator[Progress]:
    """One step of AdamW on all of the U-Net's weights for each batch of pairs. Section 3.2, Eq. 1.

    The loss is that of the noise in the picture after the edit, given the one before and the instruction.
    dropout: see `drop`. generator: draws noises, times and what is dropped.
    Raises ValueError for weights in half precision and for a dropout outside [0, 1/3].
    """
    weights = list(unet.parameters())
    check_trainable(weights)
    _check_dropout(dropout)

    def loss(pair: Pair) -> Tensor:
        before, after, text = pair
        device = after.device if generator is None else generator.device
        r = torch.rand(len(after), generator=generator, device=device).to(after.device)
        t = torch.randint(len(schedule.alpha_bar), r.shape, generator=generator, device=device)
        seen, told = drop(before, text, null, r, dropout)
        eps, times = noise_like(after, generator), t.to(after.device)
        return denoising_loss(beside(unet, seen, schedule), schedule, after, told, eps, times)

    def walk() -> Iterator[Progress]:
        with training(weights):
            yield from fit(loss, pairs, weights, lr)

    return walk()


def drop(
    image: Float[Tensor, "b c h w"],
    text: Float[Tensor, "b n d"],
    null: Float[Tensor, "1 n d"],
    r: Float[Tensor, " b"],
    share: float = 0.05,
) -> tuple[Tensor, Tensor]:
    """Image and text, of which a share of the rows loses its text, as many both, as many their image.

    r: uniform in [0, 1), one number a row; below 2 share the text goes, from share to 3 share the image.
    So one network learns all three terms of the guidance. Raises ValueError for a share outside [0, 1/3].
    """
    _check_dropout(share)
    no_text, no_image = r < 2 * share, (r >= share) & (r < 3 * share)
    blind = torch.where(no_image[:, None, None, None], torch.zeros_like(image), image)
    return blind, torch.where(no_text[:, None, None], null.to(text), text)


def widen(unet: Any) -> Any:
    """A copy of the U-Net that reads twice the channels, and for now makes nothing of the new ones.

    The first layer's new weights are zero; its config says so, and diffusers saves and loads it. Section 3.2.
    Raises ValueError for one that reads more channels than it gives: it is widened already.
    """
    old, wide = unet.conv_in, deepcopy(unet)
    channels = old.in_channels
    if channels != unet.config.out_channels:
        raise ValueError(
            f"the U-Net reads {channels} channels and gives {unet.config.out_channels}: widen one of a "
            "text-to-image model, which reads as many as it gives"
        )
    sizes = {"kernel_size": old.kernel_size, "padding": old.padding, "device": old.weight.device}
    first = nn.utils.skip_init(nn.Conv2d, 2 * channels, old.out_channels, dtype=old.weight.dtype, **sizes)
    with torch.no_grad():
        first.weight.copy_(torch.cat([old.weight, torch.zeros_like(old.weight)], 1))
        first.bias.copy_(old.bias)
    wide.conv_in = first.requires_grad_(old.weight.requires_grad)
    wide.register_to_config(in_channels=2 * channels)
    return wide


@torch.no_grad()
def encode_image(vae: Any, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
    """The latents to put beside x_t: the posterior's mode, and not scaled as x_0 is. Images in [-1, 1]."""
    return vae.encode(images.to(vae.device, vae.dtype)).latent_dist.mode()


def beside(unet: nn.Module, image: Tensor, schedule: Schedule) -> Callable[[Tensor, Any, Tensor], Tensor]:
    """The predictor (x_t, t, text) -> eps of a U-Net of eps or v that sees these latents beside x_t."""

    def predict(x_t: Tensor, t: int | Tensor, text: Tensor) -> Tensor:
        both = torch.cat([x_t, image.to(x_t)], 1)
        output = unet(both, t, encoder_hidden_states=text, return_dict=False)[0]
        return schedule.to_eps(output, x_t, t)

    return predict


def _rows(each: Tensor, x_t: Tensor) -> Tensor:
    if len(each) not in (1, len(x_t)):
        raise ValueError(
            f"{len(each)} rows of image or text do not fit {len(x_t)} rows of latents: give one, or "
            "one for each"
        )
    return each.expand(len(x_t), *each.shape[1:])


def _check(unet: Any, image: Tensor, text: Tensor, null: Tensor, *scales: float) -> None:
    for name, scale in zip(("guidance_scale", "image_guidance_scale"), scales, strict=True):
        if not isfinite(scale):
            raise ValueError(f"{name} must be finite (1 = no guidance), got {scale}")
    if text.shape[1:] != null.shape[1:]:
        raise ValueError(
            f"text {list(text.shape)} and null {list(null.shape)} must agree in tokens and width"
        )
    if image.ndim != 4 or 2 * image.shape[1] != unet.config.in_channels:
        raise ValueError(
            f"the U-Net reads {unet.config.in_channels} channels, twice those of the image, got latents "
            f"{list(image.shape)}: encode_image gives them, and widen(unet) reads them"
        )


def _check_dropout(share: float) -> None:
    if not 0 <= share <= 1 / 3:
        raise ValueError(
            f"dropout is each of three shares, so within [0, 1/3] (0.05 in the paper), got {share}"
        )
