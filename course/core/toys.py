"""Data of two numbers, on which a diffusion model is trained in seconds and seen whole."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

SPACE_WAVES, TIME_WAVES = 2, 5


class PointDenoiser(nn.Module):
    """A network eps(x_t, t) for points of `dims` numbers, about 36,000 weights.

    t: one time, or [b] times, below T. Raises ValueError for points of another size.
    """

    def __init__(self, T: int, generator: torch.Generator, dims: int = 2, width: int = 128) -> None:
        super().__init__()
        self.T, self.dims = T, dims
        inputs = dims * (1 + 2 * SPACE_WAVES) + 1 + 2 * TIME_WAVES
        sizes = (inputs, width, width, width)
        layers = [part for i in range(3) for part in (_linear(sizes[i], sizes[i + 1], generator), nn.SiLU())]
        self.layers = nn.Sequential(*layers, _linear(width, dims, generator))

    def forward(self, x_t: Float[Tensor, "b d"], t: int | Tensor) -> Tensor:
        if x_t.ndim != 2 or x_t.shape[1] != self.dims:
            raise ValueError(f"points must be [b {self.dims}], got {list(x_t.shape)}")
        time = torch.as_tensor(t, device=x_t.device).expand(len(x_t))[:, None] / self.T
        return self.layers(torch.cat([_waves(x_t, SPACE_WAVES), _waves(time, TIME_WAVES)], 1))


def _waves(numbers: Float[Tensor, "b d"], count: int) -> Tensor:
    """The numbers and waves of them: given numbers alone, small networks learn smooth functions only."""
    angles = (numbers[:, None] * 2.0 ** torch.arange(count, device=numbers.device)[:, None]).flatten(1)
    return torch.cat([numbers, angles.sin(), angles.cos()], 1)


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    with torch.no_grad():  # as nn.Linear draws, but from our generator
        for weight in layer.parameters():
            weight.uniform_(-(inputs**-0.5), inputs**-0.5, generator=generator)
    return layer


def points_in(mask: Tensor) -> Float[Tensor, "k 2"]:
    """The centres of the pixels where a mask [h w] is true, as points (x to the right, y up).

    Centred, and scaled so that their coordinates have unit variance. Raises ValueError for an empty mask.
    """
    rows, columns = torch.as_tensor(mask).nonzero(as_tuple=True)
    if len(rows) < 2:
        raise ValueError(f"a shape needs two pixels or more, this mask has {len(rows)}")
    points = torch.stack([columns, -rows], 1).float()
    points = points - points.mean(0)
    return points / points.square().mean().sqrt()


def density(
    points: Float[Tensor, "n 2"], reach: float = 3.0, size: int = 32
) -> Float[Tensor, "1 1 size size"]:
    """How many of the points lie in each cell of a square from -reach to reach, as a picture in [0, 1].

    White where there is none; black from twice the mean of the cells that hold any.
    """
    cell = ((points.detach() + reach) / (2 * reach) * size).floor().long()
    inside = ((cell >= 0) & (cell < size)).all(1)
    column, row = cell[inside].unbind(1)
    counts = torch.bincount((size - 1 - row) * size + column, minlength=size * size).float()
    held = counts[counts > 0]
    most = 2 * held.mean() if len(held) else 1.0
    return 1 - (counts / most).clamp(max=1).view(1, 1, size, size)


def tinted(
    points: Float[Tensor, "n 2"], colours: Float[Tensor, "n 3"], reach: float = 3.0, size: int = 48
) -> Float[Tensor, "1 3 size size"]:
    """The mean colour of the points in each cell of a square from -reach to reach, in [-1, 1]; else white.

    colours: one for each point, in [-1, 1]: they show where each point has gone.
    """
    cell = ((points.detach() + reach) / (2 * reach) * size).floor().long()
    inside = ((cell >= 0) & (cell < size)).all(1)
    column, row = cell[inside].unbind(1)
    place, held = (size - 1 - row) * size + column, torch.zeros(size * size, 3)
    held.index_add_(0, place, colours[inside].float())
    counts = torch.bincount(place, minlength=size * size)[:, None]
    return torch.where(counts > 0, held / counts.clamp(min=1), 1.0).T.reshape(1, 3, size, size)


PLANAR = ("moons", "checkerboard", "rings", "squares", "parallel rings", "parallel squares")
_FIVE = torch.tensor([(-2.8, 0.0), (0.0, 0.0), (2.8, 0.0), (-1.1, -1.0), (1.1, -1.0)])


def planar(name: str, n: int, generator: torch.Generator) -> Float[Tensor, "n 2"]:
    """n points of one of the sets PLANAR, centred, of unit variance over all coordinates.

    The sets of DDIB, Su et al. 2023, arXiv:2203.08382, section 4: two moons, a checkerboard, three concentric
    rings or squares, five of them side by side. Raises ValueError for another name and for n < 2.
    """
    if name not in PLANAR:
        raise ValueError(f"a planar set must be one of {PLANAR}, got {name!r}")
    if n < 2:
        raise ValueError(f"a set needs two points or more, got {n}")
    along, across = torch.rand(2, n, generator=generator)
    turn = 2 * torch.pi * along
    if name == "moons":  # the second half circle hangs into the first
        half, side = turn / 2, torch.randint(2, (n,), generator=generator)
        points = torch.stack([half.cos() + side, (1 - 2 * side) * half.sin() + side / 2], 1)
        points = points + 0.05 * torch.randn(n, 2, generator=generator)
    elif name == "checkerboard":
        column, row = 4 * along, torch.randint(2, (n,), generator=generator)
        points = torch.stack([column, across + 2 * row + column.floor() % 2], 1)
    else:
        outline = torch.stack([turn.cos(), turn.sin()], 1)
        if "squares" in name:
            outline = outline / outline.abs().amax(1, keepdim=True)
        which = torch.randint(5 if "parallel" in name else 3, (n,), generator=generator)
        radius = 1 if "parallel" in name else 1 + which
        points = outline * (radius + (across - 0.5) / 2)[:, None]
        points = points + _FIVE[which] if "parallel" in name else points
    points = points - points.mean(0)
    return points / points.square().mean().sqrt()
