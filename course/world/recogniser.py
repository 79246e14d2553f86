"""The recogniser: reads a picture's facts, and is this course's measuring instrument."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from course.world.scene import Scene
from course.world.vocabulary import BACKGROUNDS, COLOURS, KINDS, STYLES

WEIGHTS = Path(__file__).parents[1] / "weights" / "recogniser.safetensors"
SLOTS = 2  # the sticker on the left, or the only one; the one on the right
HEADS = {
    **{f"kind{i}": len(KINDS) + 1 for i in range(SLOTS)},  # the last answer: there is none
    **{f"colour{i}": len(COLOURS) for i in range(SLOTS)},
    "background": len(BACKGROUNDS),
    "style": len(STYLES),
}


@dataclass(frozen=True)
class Reading:
    """What a picture shows: (kind, colour) of its stickers from left to right, background and style."""

    stickers: tuple[tuple[str, str], ...]
    background: str
    style: str


def reading(scene: Scene) -> Reading:
    """The true reading of a scene of at most two stickers."""
    return Reading(tuple((s.kind, s.colour) for s in scene.stickers), scene.background, scene.style)


def _block(channels: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
    )


class Recogniser(nn.Module):
    """A small convolutional network; takes images, float [b 3 64 64] in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _block(3, 32, 2),
            _block(32, 64, 2),
            _block(64, 64, 1),
            _block(64, 128, 2),
            _block(128, 128, 1),
            _block(128, 192, 2),
        )
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(192 * 16, 256), nn.ReLU())
        self.heads = nn.ModuleDict({name: nn.Linear(256, size) for name, size in HEADS.items()})

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> Recogniser:
        """The trained recogniser. Raises FileNotFoundError when its weights are not there."""
        if not path.exists():
            raise FileNotFoundError(f"missing {path}: reinstall the course, or train it with `make weights`")
        model = cls()
        model.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
        )
        return model.eval().requires_grad_(False)

    def features(self, images: Tensor) -> Tensor:
        """The last layer before the answers, [b 256]; the Fréchet distance is measured on it."""
        if images.shape[1:] != (3, 64, 64):
            raise ValueError(f"the recogniser reads pictures of shape [b 3 64 64], got {list(images.shape)}")
        return self.neck(self.body(images))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits for each of HEADS."""
        features = self.features(images)
        return {name: head(features) for name, head in self.heads.items()}

    def read(self, images: Tensor) -> list[Reading]:
        """What each picture shows."""
        answers = {name: logits.argmax(1).tolist() for name, logits in self(images.float()).items()}
        out = []
        for i in range(len(images)):
            slots = [(answers[f"kind{j}"][i], answers[f"colour{j}"][i]) for j in range(SLOTS)]
            stickers = tuple((KINDS[kind], COLOURS[colour]) for kind, colour in slots if kind < len(KINDS))
            out.append(Reading(stickers, BACKGROUNDS[answers["background"][i]], STYLES[answers["style"][i]]))
        return out


def labels(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """The right answers, int [n] each; -100 for the colour of a sticker that is not there."""
    table: dict[str, list[int]] = {name: [] for name in HEADS}
    for scene in scenes:
        for j in range(SLOTS):
            there = scene.stickers[j] if j < len(scene.stickers) else None
            table[f"kind{j}"].append(KINDS.index(there.kind) if there else len(KINDS))
            table[f"colour{j}"].append(COLOURS.index(there.colour) if there else -100)
        table["background"].append(BACKGROUNDS.index(scene.background))
        table["style"].append(STYLES.index(scene.style))
    return {name: torch.tensor(column) for name, column in table.items()}
