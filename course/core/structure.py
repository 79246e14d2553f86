"""How alike are two pictures in structure, whatever their colours and textures?"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def self_similarity(features: Float[Tensor, "b n d"]) -> Float[Tensor, "b n n"]:
    """Cosines between the features of every two places of a picture: its layout, without its looks."""
    unit = F.normalize(features.float(), dim=-1)
    return unit @ unit.mT


def structure_distance(a: Float[Tensor, "b n d"], b: Float[Tensor, "b n d"]) -> Float[Tensor, " b"]:
    """Mean squared difference of the self-similarities of two pictures' features; 0 for one structure.

    Tumanyan et al. 2022 (Splice), arXiv:2201.00424, section 3.1, with the keys of DINO-ViT's last layer;
    Plug-and-Play measures by it. Raises ValueError for features of different shapes.
    """
    if a.shape != b.shape:
        raise ValueError(f"features must be of one shape [b n d], got {list(a.shape)} and {list(b.shape)}")
    return (self_similarity(a) - self_similarity(b)).square().mean((1, 2))
