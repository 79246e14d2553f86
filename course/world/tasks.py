"""Edits whose right answer is known: a source scene, an instruction, the target scene, what may change."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from course.world.captions import caption, name
from course.world.render import Mask, Picture, render, silhouette
from course.world.scene import Dice, Scene, Sticker, sample_scene
from course.world.vocabulary import BACKGROUNDS, COLOURS, KINDS, SIZE, STYLES, check

EDITS = ("recolour", "swap", "background", "style", "add", "remove", "move")


@dataclass(frozen=True)
class EditTask:
    """An edit of one of the kinds in EDITS, with its ground truth."""

    kind: str
    source: Scene
    target: Scene
    instruction: str

    @property
    def source_prompt(self) -> str:
        return caption(self.source)

    @property
    def target_prompt(self) -> str:
        return caption(self.target)

    def source_image(self) -> Picture:
        """The picture to edit, uint8 [64 64 3]."""
        return render(self.source)

    def target_image(self) -> Picture:
        """The true result, uint8 [64 64 3]."""
        return render(self.target)

    def mask(self) -> Mask:
        """The pixels that may change, bool [64 64].

        All for a style; all but the opaque stickers for a background; else the changed stickers' silhouettes,
        before and after, two pixels wider (four in a painted style).
        """
        if self.kind == "style":
            return np.ones((SIZE, SIZE), bool)
        if self.kind == "background":
            kept = np.zeros((SIZE, SIZE), bool)
            for sticker in self.source.stickers:
                kept |= silhouette(sticker, threshold=255)
            return ~kept
        changed = set(self.source.stickers) ^ set(self.target.stickers)
        mask = np.zeros((SIZE, SIZE), bool)
        for sticker in changed:
            mask |= silhouette(sticker, threshold=1)
        return grow(mask, 2 if self.source.style == "photo" else 4)


def grow(mask: Mask, pixels: int) -> Mask:
    """The mask widened by a number of pixels in the eight directions."""
    for _ in range(pixels):
        p = np.pad(mask, 1)
        rows = p[:-2] | p[1:-1] | p[2:]
        mask = rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]
    return mask


Edit = tuple[Scene, Scene, str]  # source, target, instruction


def _other(dice: Dice, options: Sequence[str], but: str) -> str:
    return dice.choice([option for option in options if option != but])


def _with(scene: Scene, old: Sticker, new: Sticker) -> Scene:
    return replace(scene, stickers=tuple(new if s is old else s for s in scene.stickers))


def _without(scene: Scene, gone: Sticker) -> Scene:
    return replace(scene, stickers=tuple(s for s in scene.stickers if s is not gone))


def _recolour(scene: Scene, dice: Dice) -> Edit:
    old = dice.choice(scene.stickers)
    new = replace(old, colour=_other(dice, COLOURS[1:], old.colour))
    return scene, _with(scene, old, new), f"make the {old.kind} {new.colour}"


def _swap(scene: Scene, dice: Dice) -> Edit:
    old = dice.choice(scene.stickers)
    new = replace(old, kind=_other(dice, KINDS, old.kind))
    return scene, _with(scene, old, new), f"turn the {old.kind} into {name(new)}"


def _background(scene: Scene, dice: Dice) -> Edit:
    new = replace(scene, background=_other(dice, BACKGROUNDS, scene.background))
    return scene, new, f"change the background to {new.background}"


def _style(scene: Scene, dice: Dice) -> Edit:
    new = replace(scene, style=_other(dice, STYLES, scene.style))
    return scene, new, f"make it a {new.style}"


def _add(scene: Scene, dice: Dice) -> Edit:
    new = dice.choice(scene.stickers)  # a scene of two, read backwards
    side = "left" if new is scene.stickers[0] else "right"
    return _without(scene, new), scene, f"add {name(new)} to the {side}"


def _remove(scene: Scene, dice: Dice) -> Edit:
    gone = dice.choice(scene.stickers)
    return scene, _without(scene, gone), f"remove the {gone.kind}"


def _move(scene: Scene, _dice: Dice) -> Edit:
    (old,) = scene.stickers
    side = "right" if old.x < SIZE // 2 else "left"
    new = replace(old, x=SIZE - old.x)
    return scene, _with(scene, old, new), f"move the {old.kind} to the {side}"


_MAKE = dict(zip(EDITS, (_recolour, _swap, _background, _style, _add, _remove, _move), strict=True))


def _fits(kind: str, scene: Scene) -> bool:
    """Whether an edit of this kind can be asked for, in words that name one sticker only."""
    kinds = [s.kind for s in scene.stickers]
    if not kinds or len(set(kinds)) < len(kinds):
        return False
    if kind in ("add", "remove"):
        return len(kinds) == 2
    return kind != "move" or (len(kinds) == 1 and scene.stickers[0].size == 28)


def edit_task(kind: str, dice: Dice) -> EditTask:
    """A random edit of a photo (of a sketch, a watercolour or pixel art too if it changes the style)."""
    check(kind, EDITS, "an edit")
    while True:
        scene = sample_scene(dice, held_out=None)
        if not _fits(kind, scene) or (kind != "style" and scene.style != "photo"):
            continue
        return EditTask(kind, *_MAKE[kind](scene, dice))


def edit_tasks(seed: int, n: int, kinds: Sequence[str] = EDITS) -> list[EditTask]:
    """`n` edits, the kinds in turn, the same for the same seed everywhere; tests use seeds from 1,000."""
    dice = Dice(seed)
    return [edit_task(kinds[i % len(kinds)], dice) for i in range(n)]
