"""What becomes of a prompt's attention maps when its words are changed: Prompt-to-Prompt's three edits."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import torch
from torch import Tensor

from course.core.checks import check_option
from course.core.words import align_prompts, replace_words, token_positions, word_positions


@dataclass(frozen=True, eq=False)
class Edit:
    """How the target prompt's cross-attention is made of the source's: by `replace`, `refine`, `reweight`.

    mapper: float32 [n n], hands the source's maps M, [... queries n], to the target's tokens: M @ mapper.
    kept: float32 [n], 1 for a target's token that takes what is handed to it, 0 for one that has its own map.
    factors: float32 [n], on each token's map.
    """

    tokenizer: Any
    source: str
    target: str
    mapper: Tensor
    kept: Tensor
    factors: Tensor


def replace(tokenizer: Any, source: str, target: str, *, compat: Literal["official"] | None = None) -> Edit:
    """Word swap, between prompts of as many words. Hertz et al. 2022, arXiv:2208.01626, section 3.2.

    A swapped word gets its predecessor's map, in equal parts where it has another number of tokens.
    compat: "official" reproduces the authors' mapper, which after the last swapped word takes the source's
    token at the target's position: a wrong one as soon as the two words differ in tokens.
    Raises ValueError when the prompts differ in their number of words.
    """
    check_option("compat", compat, (None, "official"))
    mapper = replace_words(tokenizer, source, target).mapper
    if compat == "official":
        a, b = (word_positions(tokenizer, prompt) for prompt in (source, target))
        swapped = [(i, j) for (old, i), (new, j) in zip(a, b, strict=True) if old != new]
        i, j = (swapped[-1][0][-1] + 1, swapped[-1][1][-1] + 1) if swapped else (0, 0)
        after = torch.arange(j, len(mapper) - max(i - j, 0))
        mapper[:, j:] = 0
        mapper[after, after] = 1
    ones = torch.ones(len(mapper))
    return Edit(tokenizer, source, target, mapper, ones, ones)


def refine(tokenizer: Any, source: str, target: str) -> Edit:
    """Words added (or left out): common tokens get their partner's map, new ones have their own."""
    found = align_prompts(tokenizer, source, target)
    mapper = torch.nn.functional.one_hot(found.source_of.clamp(min=0), len(found.kept)).float().T
    return Edit(tokenizer, source, target, mapper, found.kept, torch.ones_like(found.kept))


def reweight(edit: Edit, factors: Mapping[str, float]) -> Edit:
    """The edit, with the maps of these words of its target prompt multiplied; nothing is renormalised.

    To reweight alone, take `replace` of a prompt by itself. factors: the paper's c, from -2 to 2 there.
    Raises ValueError for a word that the target prompt does not have, and a factor that is not finite.
    """
    changed = edit.factors.clone()
    for word, factor in factors.items():
        if not isfinite(factor):
            raise ValueError(f"the factor of {word!r} must be finite (1 = unchanged), got {factor}")
        changed[token_positions(edit.tokenizer, edit.target, word)] *= factor
    return dataclasses.replace(edit, factors=changed)
