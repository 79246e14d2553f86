"""TIME: make a prompt imply what another one says, by a closed-form edit of cross-attention.

    with time_edit(model, "a pack of roses", "a pack of blue roses"):
        ...  # whatever asks the model: a rose is blue now, unless a prompt says otherwise

Keys and values are linear in the text's embedding, so the edit is a ridge regression: the projections that
send the source's embeddings where the destination's went, and move as little as they can.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import isfinite
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from course.core.checks import check_option
from course.core.hooks import find
from course.core.model import Model
from course.core.words import check_prompt

AUGMENTATIONS = ("A photo of ", "An image of ", "A picture of ")


@contextmanager
def time_edit(
    model: Model,
    source: str,
    destination: str,
    lam: float = 0.1,
    *,
    augmentations: Sequence[str] = AUGMENTATIONS,
    keys: bool = True,
    compat: Literal["diffusers"] | None = None,
) -> Iterator[list[str]]:
    """The names of the edited layers; within the block `source` implies what `destination` says.

    Orgad et al. 2023, arXiv:2303.08084: K and V projections of every cross-attention layer, by Eq. 5.
    source: its tokens must be found among the destination's, in that order ("an" counts as "a").
    lam: the pull back to the old weights, above 0; the smaller, the stronger the edit.
    augmentations: beginnings to put before both prompts, for more pairs; () for none. The model has to know
    their words. keys: False edits the values alone.
    compat: "diffusers" computes in the weights' own precision, by an inverse; the default is float64.
    Blocks nest: the inner edit starts from the outer one's weights. Afterwards the weights are as before, bit
    for bit. Raises ValueError for a model without cross-attention, for a source that is no subsequence of the
    destination, for a lam that is not above 0, and as `encode_text` does.
    """
    check_option("compat", compat, (None, "diffusers"))
    edited = _as_diffusers if compat == "diffusers" else edited_projection
    names = ("attn2.to_k", "attn2.to_v") if keys else ("attn2.to_v",)
    layers = find(model.unet, lambda name, _: name.endswith(names))
    contexts, targets = (rows.flatten(0, 1) for rows in aligned(model, source, destination, augmentations))
    with ExitStack() as undo:
        for layer in layers.values():
            weight: Any = layer.weight
            W = weight.detach().clone()
            undo.callback(_write, weight, W)  # undone by a copy: arithmetic would leave rounding
            values = targets.double() @ W.double().T
            _write(weight, edited(W, contexts, values, lam))
        yield list(layers)


def edited_projection(
    weight: Float[Tensor, "out d"],
    contexts: Float[Tensor, "k d"],
    values: Float[Tensor, "k out"],
    lam: float,
) -> Float[Tensor, "out d"]:
    """W' with the least  sum_i |W' c_i - v_i|^2 + lam |W' - W|^2, in float64. Eq. 5.

    W' = (lam W + sum v_i c_i^T) (lam I + sum c_i c_i^T)^-1. Many c_i are nearly equal (the padding), so that
    float32 loses the digits that the update consists of.
    Raises ValueError unless lam is above 0 and finite.
    """
    W, c, v = weight.double(), contexts.double(), values.double()
    wanted, gram = _sums(W, c, v, lam)
    return torch.linalg.solve(gram, wanted.T).T  # gram is its own transpose


def aligned(
    model: Model, source: str, destination: str, augmentations: Sequence[str] = ()
) -> tuple[Float[Tensor, "p n d"], Float[Tensor, "p n d"]]:
    """The source's embeddings c_i and, position by position, the destination's c*_i that they belong to.

    p pairs of prompts: the two alone, then behind each augmentation. Of the destination's embeddings those
    of its added tokens are left out, and padding follows on; all n positions take part, padding too, whose
    embeddings carry much of what the prompt says. Raises ValueError as `partners`.
    """
    starts = ("", *augmentations)
    sources, destinations = ([start + prompt for start in starts] for prompt in (source, destination))
    pairs = zip(sources, destinations, strict=True)
    where = torch.tensor([partners(model.tokenizer, *pair, model.tokens) for pair in pairs])
    with torch.no_grad():
        contexts, texts = model.encode_text(sources), model.encode_text(destinations)
    return contexts, texts.take_along_dim(where[..., None].to(texts.device), dim=1)


def partners(tokenizer: Any, source: str, destination: str, n: int) -> list[int]:
    """For each of the source's n positions, the destination's: tokens in order, each as early as can be.

    Raises ValueError when a token finds none, that is, when the destination does more than add to the source.
    """
    for prompt in (source, destination):
        check_prompt(tokenizer, prompt)
    wanted, there = (tokenizer(prompt).input_ids for prompt in (source, destination))
    found: list[int] = []
    for token in wanted:
        after = range(found[-1] + 1 if found else 0, len(there))
        match = next((j for j in after if _same(tokenizer, token, there[j])), None)
        if match is None:
            raise ValueError(
                f"the destination must be the source with words added, and {tokenizer.decode([token])!r} of "
                f"{source!r} has no partner in {destination!r}: keep all of the source's words, in order"
            )
        found.append(match)
    padding = range(found[-1] + 1, n)
    # A destination that is longer runs out of padding first.
    return [*found, *padding, *[n - 1] * (n - len(found) - len(padding))]


def _same(tokenizer: Any, token: int, other: int) -> bool:
    return token == other or {tokenizer.decode([each]).strip() for each in (token, other)} == {"a", "an"}


def _sums(W: Tensor, c: Tensor, v: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    if not (isfinite(lam) and lam > 0):
        raise ValueError(f"lam must be above 0 and finite, got {lam}: at 0 too few embeddings fix a weight")
    identity = torch.eye(c.shape[1], dtype=c.dtype, device=c.device)
    return lam * W + v.T @ c, lam * identity + c.T @ c


def _as_diffusers(weight: Tensor, contexts: Tensor, values: Tensor, lam: float) -> Tensor:
    wide = torch.promote_types(weight.dtype, torch.float32)  # torch inverts no narrower ones
    wanted, gram = _sums(weight.to(wide), contexts.to(wide), values.to(wide), lam)
    return wanted @ torch.inverse(gram)


def _write(weight: Tensor, value: Tensor) -> None:
    with torch.no_grad():
        weight.copy_(value)
