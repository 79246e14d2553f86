"""Local blend: an edit may show only where chosen words have a say."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from course.core.attention import HasAttention, Maps, kept_in
from course.core.sampling import Step, blend
from course.core.scoped import scoped
from course.core.words import token_positions

Words = str | Sequence[str]
T = TypeVar("T")


@dataclass(frozen=True)
class LocalBlend:
    """Keep the source's latents where neither prompt's words attend. Hertz et al. 2022, section 3.2.

    words: of the source prompt and of the target prompt, one or several each. subtract: words (of both again)
    whose places are taken out. size: side, or (h, w), of the cross-attention maps that are looked at: 16 for
    Stable Diffusion at 512 pixels. threshold: share of the highest attention, in [0, 1).
    start: share of the walk, in [0, 1), before nothing is blended; 0.2 is null-text inversion's, 0 the
    paper's code.
    """

    words: tuple[Words, Words]
    subtract: tuple[Words, Words] | None = None
    size: int | tuple[int, int] = 16
    threshold: float = 0.3
    start: float = 0.2

    def __post_init__(self) -> None:
        for name, value in (("threshold", self.threshold), ("start", self.start)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value}")
        for name, pair in (("words", self.words), ("subtract", self.subtract or ("", ""))):
            if isinstance(pair, str) or len(pair) != 2:
                raise ValueError(
                    f'{name} must be a pair, of source and target, as ("cat", "dog"), got {pair!r}'
                )

    @property
    def queries(self) -> int:
        """Cells of the maps that are looked at."""
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        return height * width


class Blender:
    """The `intervene` of one walk: the heat of each pair's words, summed over the steps so far.

    unet: whose maps are looked at. blends: one for all pairs, or one for each. prompts: for each pair its
    tokenizer, source and target.
    Raises ValueError for words that the prompts do not have.
    """

    def __init__(
        self,
        unet: HasAttention,
        blends: LocalBlend | Sequence[LocalBlend],
        prompts: Sequence[tuple[Any, str, str]],
        times: Sequence[int],
    ) -> None:
        given = [blends] if isinstance(blends, LocalBlend) else blends
        self.blends, self.times = one_each("local blend", given, len(prompts)), list(times)
        self.places = [
            [_positions(each, *told) for each in (blend.words, blend.subtract) if each is not None]
            for blend, told in zip(self.blends, prompts, strict=True)
        ]
        self.heat = [[torch.zeros(())] * len(places) for places in self.places]
        self.seen = Maps()
        keep, largest = kept_in(self.seen, prompts=2 * len(self.blends)), max(b.queries for b in self.blends)
        self.control = scoped(unet, keep, lambda site: site.kind == "cross", largest)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Adds up what the words attend to in the network's call within the block."""
        pairs, seen = len(self.blends), self.seen
        seen.maps.clear()
        seen.times.clear()
        with self.control:
            yield
        for pair, each in enumerate(self.blends):
            for k, (source, target) in enumerate(self.places[pair]):
                found = [seen.mean(each.size, source)[pair], seen.mean(each.size, target)[pairs + pair]]
                self.heat[pair][k] = torch.stack(found) + self.heat[pair][k].to(found[0])

    def __call__(self, step: Step) -> Tensor:
        """x_s, with the source's latents in the target's rows outside each pair's region."""
        sources, targets = step.x_s.chunk(2)
        done, steps, regions = self.times.index(step.t), len(self.times) - 1, []
        for each, heat in zip(self.blends, self.heat, strict=True):
            if done < int(each.start * steps):
                regions.append(torch.ones_like(targets[:1, :1]))
                continue
            found = [
                region(maps, targets.shape[2:], each.threshold, widen=k == 0) for k, maps in enumerate(heat)
            ]
            regions.append(found[0] if len(found) == 1 else found[0] * (1 - found[1]))
        return torch.cat([sources, blend(targets, sources, torch.cat(regions))])


def region(heat: Tensor, size: Sequence[int], threshold: float, widen: bool) -> Tensor:
    """Where one of the two maps, [2 h w], exceeds a share of its own maximum: a mask [1 1 *size].

    widen: by one cell of the maps to each side first.
    """
    heat = heat[:, None]
    if widen:
        heat = functional.max_pool2d(heat, 3, 1, 1)
    heat = functional.interpolate(heat, size=tuple(size))  # in blocks, as the maps are
    return (heat / heat.amax((2, 3), keepdim=True) > threshold).any(0, keepdim=True).to(heat.dtype)


def _positions(pair: tuple[Words, Words], tokenizer: Any, source: str, target: str) -> list[list[int]]:
    """The positions of the words in the source prompt, and in the target prompt."""
    found = []
    for words, prompt in zip(pair, (source, target), strict=True):
        each = [words] if isinstance(words, str) else words
        found.append(sorted({place for word in each for place in token_positions(tokenizer, prompt, word)}))
    return found


def one_each(name: str, given: Sequence[T], pairs: int) -> list[T]:
    """The things given, one for each pair. Raises ValueError unless one is given for all, or one for each."""
    if len(given) not in (1, pairs):
        raise ValueError(f"{len(given)} {name}s for {pairs} rows of x_T: give one for all, or one for each")
    return list(given) * (pairs // len(given))
