"""The decoder's layers of a U-Net, by the size of their grid and their number, whatever the U-Net."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

# (how many times smaller than the latents its grid is, its number among the decoder's layers of that size)
Layer = tuple[int, int]


@dataclass(frozen=True)
class DecoderLayer:
    """What can be injected in one layer, by the modules' names.

    features: the convolution whose output a residual block adds to its input. attention: what makes the
    queries and keys of the self-attention after it; empty where there is none.
    """

    features: Mapping[str, nn.Module]
    attention: Mapping[str, nn.Module]


def decoder(unet: Any) -> dict[Layer, DecoderLayer]:
    """The layers of a UNet2DConditionModel's decoder, coarsest first; Stable Diffusion's numbers 0 to 11."""
    found, blocks = {}, list(unet.up_blocks)
    for depth, block in enumerate(blocks):
        attentions = list(getattr(block, "attentions", []))
        for i, resnet in enumerate(block.resnets):
            features = {f"up_blocks.{depth}.resnets.{i}.conv2": resnet.conv2}
            attention = {
                f"up_blocks.{depth}.attentions.{i}.transformer_blocks.{j}.attn1.{name}": getattr(
                    part.attn1, name
                )
                for j, part in enumerate(attentions[i].transformer_blocks if attentions else [])
                for name in ("to_q", "to_k")
            }
            found[2 ** (len(blocks) - 1 - depth), i] = DecoderLayer(features, attention)
    return found


def injected_modules(
    unet: Any, what: Literal["features", "attention"], chosen: Collection[Layer] | None
) -> dict[str, nn.Module]:
    """The modules of the chosen layers, or of Plug-and-Play's: for features its layer, attention from there.

    Raises ValueError for no layer, one that is not there, and one without attention.
    """
    found = decoder(unet)
    able = {at: getattr(layer, what) for at, layer in found.items() if getattr(layer, what)}
    if chosen is None:
        onwards = list(found)[list(found).index(paper_layer(found)) :]
        chosen = onwards[:1] if what == "features" else [at for at in onwards if at in able]
    if not chosen or set(chosen) - set(able):
        raise ValueError(
            f"{what} must name one or more of the layers {list(able)}, got {list(chosen)}: a share of 0 "
            "injects none"
        )
    return {name: module for at in chosen for name, module in able[at].items()}


def paper_layer(layers: Collection[Layer]) -> Layer:
    """Number 4 in Stable Diffusion: the second of the second-coarsest size, where there are two of each."""
    sizes = sorted({size for size, _ in layers}, reverse=True)[:2]
    return max(at for at in layers if at[0] == sizes[-1] and at[1] <= 1)
