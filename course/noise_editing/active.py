"""Which cells of every map an edit touches, and how they are taken out and put back."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from course.noise_editing.region import dilate

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Cells:
    """m cells of a layer's output: the place of each, and the places of the inputs that it is computed from.

    Places count through a map row by row. within: 0 for inputs that lie beyond the map, if any do, else 1.
    """

    places: Int[Tensor, " m"]
    inputs: Int[Tensor, "taps m"]
    within: Float[Tensor, "taps m"] | None = None

    def __len__(self) -> int:
        return len(self.places)

    def gather(self, maps: Float[Tensor, "b channels h w"]) -> Float[Tensor, "b*m channels*taps"]:
        """A row for each cell: its inputs, in the order of a convolution's weights; 0 beyond the map."""
        flat = maps.flatten(2).transpose(0, 1)
        found = flat.gather(2, self.inputs.flatten().expand(*flat.shape[:2], -1))
        if self.within is not None:
            found *= self.within.flatten()
        return found.unflatten(2, self.inputs.shape).transpose(1, 2).flatten(0, 1).flatten(1).T

    def scatter(
        self, rows: Float[Tensor, "b*m channels"], into: Float[Tensor, "b channels h w"]
    ) -> Float[Tensor, "b channels h w"]:
        """A copy of the map `into`, with the cells in their places."""
        out = into.clone()
        cells = rows.unflatten(0, (len(into), -1)).transpose(1, 2)
        out.view(*out.shape[:2], -1).scatter_(2, self.places.expand_as(cells), cells)
        return out


class Active:
    """What of every map is computed again: the blocks of cells whose field of view touches the mask.

    mask: [b 1 h w], 1 = changed; one for all rows: what changed in any. block: cells a side, of the output.
    margin: cells by which the mask is grown on maps of another size, where an edit blurs into its neighbours.
    """

    def __init__(self, mask: Float[Tensor, "b 1 h w"], block: int = 4, margin: int = 1) -> None:
        self.mask = mask.detach().float().amax(0, keepdim=True).cpu()
        self.block, self.margin = block, margin
        self._masks: dict[Size, Tensor] = {}
        self._cells: dict[tuple[object, ...], Cells] = {}

    @property
    def size(self) -> Size:
        """(h, w) of the mask as it was given."""
        return self.mask.shape[2], self.mask.shape[3]

    def at(self, size: Size) -> Float[Tensor, "h w"]:
        """The mask for a map of this size: a cell has changed if anything in it has, so no edit vanishes.

        The authors' code interpolates, and takes what is above min(0.3, the largest - 0.001).
        """
        if size not in self._masks:
            same = size == self.size
            found = self.mask if same else dilate(F.adaptive_max_pool2d(self.mask, size), self.margin)
            self._masks[size] = found[0, 0]
        return self._masks[size]

    def cells(self, size: Size) -> Bool[Tensor, "h w"]:
        """Which cells are computed again by a layer that looks at single cells: those of touched blocks."""
        found = torch.zeros(size[0] * size[1], dtype=torch.bool)
        found[self.tokens(size, torch.device("cpu"))] = True
        return found.unflatten(0, size)

    def tokens(self, size: Size, device: torch.device) -> Int[Tensor, " m"]:
        """Places of those cells in a map of this size that was flattened into tokens."""
        return self._seen(size, size, ((1, 1, 0, 1),) * 2, device).places

    def of(self, conv: nn.Conv2d, x: Tensor, out: Size) -> Cells:
        """The cells of its output, of this size, that a convolution computes again."""
        padding = conv.padding if isinstance(conv.padding, tuple) else (0, 0)
        rows, columns = zip(conv.kernel_size, conv.stride, padding, conv.dilation, strict=True)
        return self._seen((x.shape[2], x.shape[3]), out, (rows, columns), x.device)

    def _seen(self, size: Size, out: Size, axes: tuple[tuple[int, ...], ...], device: torch.device) -> Cells:
        """axes: kernel, stride, padding and dilation of the rows, and of the columns."""
        key = (size, out, axes, device)
        if key not in self._cells:
            y, x = (_windows(cells, *axis) for cells, axis in zip(out, axes, strict=True))
            seen = (_covers(y, self.block, size[0])[..., None] & self.at(size).bool()).any(1)
            touched = (_covers(x, self.block, size[1]) & seen[:, None]).any(2)
            again = touched.repeat_interleave(self.block, 0).repeat_interleave(self.block, 1)
            i, j = again[: out[0], : out[1]].nonzero(as_tuple=True)
            rows, columns = y[i].T[:, None], x[j].T[None]  # [kernel 1 m] and [1 kernel m]
            beyond = (rows < 0) | (rows >= size[0]) | (columns < 0) | (columns >= size[1])
            inputs = rows.clamp(0, size[0] - 1) * size[1] + columns.clamp(0, size[1] - 1)
            self._cells[key] = Cells(
                (i * out[1] + j).to(device),
                inputs.flatten(0, 1).to(device),
                (~beyond).float().flatten(0, 1).to(device) if beyond.any() else None,
            )
        return self._cells[key]


def _windows(out: int, kernel: int, stride: int, padding: int, dilation: int) -> Int[Tensor, "{out} k"]:
    """Along one axis: the places that each cell is computed from."""
    return (torch.arange(out) * stride - padding)[:, None] + torch.arange(kernel) * dilation


def _covers(windows: Int[Tensor, "out k"], block: int, length: int) -> Bool[Tensor, "blocks {length}"]:
    """Which places each block sees: from the first of its first cell's to the last of its last cell's."""
    first = torch.arange(0, len(windows), block)
    last = (first + block - 1).clamp(max=len(windows) - 1)
    places = torch.arange(length)
    return (places >= windows[first, :1]) & (places <= windows[last, -1:])
