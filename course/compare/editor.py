"""What an editor of given pictures is, so that all of them can be called alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from course.core.model import Model


@dataclass(frozen=True, eq=False)
class Given:
    """A picture [1 3 H W] in [-1, 1], what it shows and what it is to show; an editor reads what it needs.

    mask: [1 1 H W] of 0 and 1 (1 = may change); instruction: as in "make the car red".
    """

    picture: Float[Tensor, "1 3 H W"]
    source: str
    target: str
    instruction: str | None = None
    mask: Float[Tensor, "1 1 H W"] | None = None


@dataclass(frozen=True)
class Settings:
    """What all editors share: steps of a whole walk, guidance scale; and what suits Imagic on this model."""

    steps: int = 50
    scale: float = 7.5
    imagic: Mapping[str, Any] = field(default_factory=dict)
    imagic_scale: float = 7.5

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 2:
            raise ValueError(f"steps must be a whole number of 2 or more, got {self.steps!r}")


PAPERS = Settings()
# Fewer steps and less guidance suit the sticker model; Imagic's settings are its lesson's.
STICKERS = Settings(
    20,
    5.0,
    {"embedding_steps": 60, "embedding_lr": 1e-2, "model_steps": 60, "model_lr": 5e-4, "batch": 4},
    3.0,
)

Edit = Callable[[Model, Given, Settings, torch.Generator], Tensor]


def itself(model: Model) -> Model:
    """The model, as most editors use it."""
    return model


@dataclass(frozen=True)
class Editor:
    """One way to edit a given picture.

    chapter: that teaches it, or None for a mark to compare with that is no editor. needs: the fields of Given
    that it reads. about: its own settings, in words. slow: measured on a part of the tasks.
    opened: the model that it edits with; raises FileNotFoundError where its weights are not there.
    """

    name: str
    edit: Edit
    chapter: int | None
    needs: tuple[str, ...] = ("target",)
    about: str = ""
    slow: bool = False
    opened: Callable[[Model], Model] = itself

    def entry(self) -> dict[str, Any]:
        """What is told of it; where this changes, it is to be measured anew."""
        told = {"chapter": self.chapter, "needs": list(self.needs), "about": self.about}
        return told | {"slow": self.slow}
