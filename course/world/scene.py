"""Scenes: what is in a picture, from which everything else about it follows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from course.world.vocabulary import (
    BACKGROUNDS,
    CELL,
    COLOURS,
    KINDS,
    NATURAL_COLOUR,
    NEW_SUBJECTS,
    SIZE,
    STYLES,
    check,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Sticker:
    """One sticker: its kind, colour, centre (x, y) and size, in pixels of a 64 x 64 picture.

    Unless told otherwise it lies in one of the places that the shipped model knows.

    A colour that is the kind's own ("natural" for an apple, which is red) is stored under its name.
    Raises ValueError for an unknown kind or colour, a size outside 8..64, or a centre outside the picture.
    """

    kind: str
    colour: str = "natural"
    x: int = 34
    y: int = 34
    size: int = 44

    def __post_init__(self) -> None:
        check(self.kind, KINDS + NEW_SUBJECTS, "a sticker's kind")
        check(self.colour, COLOURS, "a sticker's colour")
        if self.colour == "natural" and self.kind in NATURAL_COLOUR:
            object.__setattr__(self, "colour", NATURAL_COLOUR[self.kind])
        if not 8 <= self.size <= SIZE:
            raise ValueError(f"a sticker's size must lie in 8..{SIZE} pixels, got {self.size}")
        if not (0 <= self.x < SIZE and 0 <= self.y < SIZE):
            raise ValueError(
                f"a sticker's centre must lie in the picture (0..{SIZE - 1}), got {self.x, self.y}"
            )

    @property
    def look(self) -> str:
        """Which drawing is used: "natural", or the colour it is tinted with."""
        return "natural" if NATURAL_COLOUR.get(self.kind) == self.colour else self.colour

    @property
    def corner(self) -> tuple[int, int]:
        """(left, top) of the square that the sticker is drawn in; may lie outside the picture."""
        return self.x - self.size // 2, self.y - self.size // 2


@dataclass(frozen=True)
class Scene:
    """Up to three stickers, left to right, on a background, in a style; `seed` draws its texture.

    Raises ValueError for an unknown background or style, more than three stickers, or a wrong order.
    """

    stickers: tuple[Sticker, ...] = ()
    background: str = "grass"
    style: str = "photo"
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.background, BACKGROUNDS, "a background")
        check(self.style, STYLES, "a style")
        if len(self.stickers) > 3:
            raise ValueError(f"a scene holds at most three stickers, got {len(self.stickers)}")
        if [s.x for s in self.stickers] != sorted(s.x for s in self.stickers):
            raise ValueError(
                f"stickers must be given from left to right, got x = {[s.x for s in self.stickers]}"
            )
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must lie in 0..2**63 - 1, got {self.seed}")


def is_held_out(scene: Scene) -> bool:
    """Whether a (kind, colour, background) of the scene is kept out of all training (one in eleven is)."""
    b = BACKGROUNDS.index(scene.background)
    return any(
        (2 * KINDS.index(s.kind) + 5 * COLOURS.index(s.colour) + 3 * b) % 11 == 0
        for s in scene.stickers
        if s.kind in KINDS
    )


class Dice:
    """Random choices that are the same on every machine: raw PCG64 output, which NumPy keeps stable."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def below(self, n: int) -> int:
        """A whole number in 0..n-1."""
        return int(self._bits.random_raw()) % n

    def chance(self, percent: int) -> bool:
        """True that often."""
        return self.below(100) < percent

    def between(self, low: int, high: int, step: int = 1) -> int:
        """One of low, low + step, ..., high."""
        return low + step * self.below((high - low) // step + 1)

    def choice(self, options: Sequence[T]) -> T:
        """One of the options, each as likely."""
        return options[self.below(len(options))]


def _sticker(dice: Dice, place: str, anywhere: bool) -> Sticker:
    """One large sticker near the middle or a small one at a side, its corner on the grid of CELL."""
    kind = dice.choice(KINDS)
    colour = "natural" if dice.chance(30) else dice.choice(COLOURS[1:])
    if place == "middle":
        size = dice.choice((36, 44)) if anywhere else 44
        free = range(size // 2 + 4, SIZE - size // 2 - 3, CELL) if anywhere else (30, 34)
        return Sticker(kind, colour, dice.choice(free), dice.choice(free), size)
    x = dice.choice((14, 18)) + (0 if place == "left" else SIZE // 2)
    return Sticker(kind, colour, x, dice.choice(range(22, 43, CELL) if anywhere else (26, 34)), 28)


def _any_scene(dice: Dice, anywhere: bool) -> Scene:
    count = dice.below(100)  # of 100 scenes: 50 one large sticker, 40 two, 8 one small at a side, 2 none
    if count < 50:
        stickers: tuple[Sticker, ...] = (_sticker(dice, "middle", anywhere),)
    elif count < 90:
        stickers = (_sticker(dice, "left", anywhere), _sticker(dice, "right", anywhere))
    elif count < 98:
        stickers = (_sticker(dice, dice.choice(("left", "right")), anywhere),)
    else:
        stickers = ()
    style = "photo" if dice.chance(70) else dice.choice(STYLES[1:])
    return Scene(stickers, dice.choice(BACKGROUNDS), style, dice.below(2**32))


def sample_scene(dice: Dice, held_out: bool | None = False, anywhere: bool = False) -> Scene:
    """A random scene; `held_out`: False without held-out combinations, True with one, None either way.

    anywhere: also with large stickers of a second size and stickers in many more places. What reads
    pictures learns from these; what draws them must see each place about as often to draw a kind there.
    """
    while True:
        scene = _any_scene(dice, anywhere)
        if held_out is None or is_held_out(scene) == held_out:
            return scene


def scenes(seed: int, n: int, held_out: bool | None = False, anywhere: bool = False) -> Iterator[Scene]:
    """`n` random scenes (see `sample_scene`), the same for the same seed on every machine.

    Training uses seeds below 1,000; tests, tasks and reports use seeds from 1,000 up.
    """
    dice = Dice(seed)
    for _ in range(n):
        yield sample_scene(dice, held_out, anywhere)
