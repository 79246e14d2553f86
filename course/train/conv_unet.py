"""A U-Net that does at every place what it would do there in a crop, whatever the picture's size.

There is no attention, and the normalisation is of a pixel's own channels: GroupNorm's statistics are of the
whole picture, and would change with its size.
"""

from math import log

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn


class PixelNorm(nn.Module):
    """LayerNorm over each pixel's own channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight).movedim(-1, 1)


class Block(nn.Module):
    """A residual block of two convolutions; the noise level, where there is one, scales and shifts."""

    def __init__(self, channels: int, out: int, embedding: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([PixelNorm(channels), PixelNorm(out)])
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()
        self.level = nn.Linear(embedding, 2 * out) if embedding else None

    def forward(self, x: Tensor, embedded: Tensor | None) -> Tensor:
        h = self.norms[1](self.conv1(F.silu(self.norms[0](x))))
        if self.level is not None and embedded is not None:
            factor, shift = self.level(embedded)[:, :, None, None].chunk(2, 1)
            h = h * (1 + factor) + shift
        return self.skip(x) + self.conv2(F.silu(h))


class ConvUNet(ModelMixin, ConfigMixin):
    """A U-Net of convolutions alone. It begins with 2 x 2 pixels folded into channels, and ends unfolded."""

    @register_to_config
    def __init__(self, in_channels: int, widths: tuple[int, ...], with_level: bool, features: int = 64):
        super().__init__()
        size = features if with_level else 0
        self.embedding = nn.Sequential(nn.Linear(32, size), nn.SiLU()) if with_level else None
        self.first = nn.Conv2d(4 * in_channels, widths[0], 3, padding=1)
        pairs = list(zip((widths[0], *widths), widths, strict=False))
        self.down = nn.ModuleList([Block(a, b, size) for a, b in pairs])
        self.middle = Block(widths[-1], widths[-1], size)
        self.up = nn.ModuleList([Block(2 * b, a, size) for a, b in reversed(pairs)])
        self.final = nn.Conv2d(widths[0], 12, 3, padding=1)
        for weight in self.final.parameters():
            nn.init.zeros_(weight)

    @property
    def multiple(self) -> int:
        """What the picture's height and width must be multiples of."""
        return 2 ** len(self.down)

    def forward(self, x: Tensor, alpha_bar: Tensor | None = None) -> Tensor:
        """[b 3 h w] from [b in_channels h w]; alpha_bar [b] where the network was built for a level."""
        if x.shape[2] % self.multiple or x.shape[3] % self.multiple:
            raise ValueError(
                f"height and width must be multiples of {self.multiple}, got {list(x.shape[2:])}: pad or cut"
            )
        embedded = None if self.embedding is None else self.embedding(_waves(alpha_bar))
        h, left = self.first(F.pixel_unshuffle(x, 2)), []
        for i, block in enumerate(self.down):
            h = block(F.avg_pool2d(h, 2) if i else h, embedded)
            left.append(h)
        h = self.middle(h, embedded)
        for i, block in enumerate(self.up):
            h = block(torch.cat([h, left.pop()], 1), embedded)
            h = F.interpolate(h, scale_factor=2.0, mode="nearest") if i + 1 < len(self.up) else h
        return F.pixel_shuffle(self.final(h), 2)


def _waves(alpha_bar: Tensor | None) -> Tensor:
    """Sines and cosines of the logarithm of the signal-to-noise ratio, [b 32]."""
    if alpha_bar is None:
        raise ValueError("this network needs the noise level, alpha_bar [b]")
    ratio = (alpha_bar / (1 - alpha_bar).clamp(min=1e-6)).log()
    angles = ratio[:, None] * torch.linspace(log(0.05), log(2), 16, device=ratio.device).exp()
    return torch.cat([angles.sin(), angles.cos()], 1)
