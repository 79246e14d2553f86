"""Prompt-to-Prompt: draw the edited prompt's picture with the attention maps of the source prompt's."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import FusedAttnProcessor2_0
from jaxtyping import Float
from torch import Tensor

from course.attention.edits import Edit, refine, replace, reweight
from course.attention.local_blend import Blender, LocalBlend, one_each
from course.core.attention import Control, HasAttention, Site, on_text, text_rows
from course.core.attention_processor import Watch, choose
from course.core.hooks import rewriting
from course.core.sampling import Denoiser, Step, last, sample
from course.core.schedule import Schedule
from course.core.scoped import scoped
from course.core.words import token_positions

__all__ = [
    "EVERY_OTHER",
    "Edit",
    "from_source",
    "prompt_to_prompt",
    "prompt_to_prompt_steps",
    "refine",
    "replace",
    "reweight",
    "source_for_both",
]

EVERY_OTHER = "default_"  # the key of all words that a mapping does not name, as in the authors' code


def prompt_to_prompt(
    unet: HasAttention,
    denoise: Denoiser,
    x_T: Float[Tensor, "b c h w"],
    edits: Edit | Sequence[Edit],
    times: Sequence[int],
    schedule: Schedule,
    *,
    cross: float | Mapping[str, float] = 0.8,
    self_attention: float = 0.4,
    max_tokens: int = 256,
    local_blend: LocalBlend | Sequence[LocalBlend] | None = None,
) -> Float[Tensor, "2*b c h w"]:
    """The sources' latents, then the targets', from the same noise. Hertz et al. 2022, Algorithm 1.

    unet: the network that `denoise` asks. denoise: of 2b prompts [sources..., targets...], guided or not, in
    one call of the network for each time. x_T: one row for each pair. edits: one for all, or one for each.
    cross: share of the walk, in [0, 1], in which cross-attention is the source's; by word of the target if
    some are to be released earlier, the rest under "default_" (1 if it is left out).
    self_attention: share in which self-attention is, at sites of at most max_tokens queries (16 x 16 in the
    paper's code, 32 x 32 in null-text inversion's); larger sites keep their own.
    Of n steps, cross * (n + 1) and self_attention * n are taken, rounded down, as in the authors' code.
    local_blend: keeps the edit where its words attend; one for all, or one for each.
    Raises ValueError for shares outside [0, 1], unknown words, and numbers of rows or tokens that do not fit.
    """
    walk = (unet, denoise, x_T, edits, times, schedule)
    options: dict[str, Any] = {"cross": cross, "self_attention": self_attention, "max_tokens": max_tokens}
    return last(prompt_to_prompt_steps(*walk, **options, local_blend=local_blend))


def prompt_to_prompt_steps(
    unet: HasAttention,
    denoise: Denoiser,
    x_T: Float[Tensor, "b c h w"],
    edits: Edit | Sequence[Edit],
    times: Sequence[int],
    schedule: Schedule,
    *,
    cross: float | Mapping[str, float] = 0.8,
    self_attention: float = 0.4,
    max_tokens: int = 256,
    local_blend: LocalBlend | Sequence[LocalBlend] | None = None,
) -> Iterator[Step]:
    """The steps of `prompt_to_prompt`, to watch; between two of them the unet is as it was."""
    if x_T.ndim != 4 or not len(x_T):
        raise ValueError(f"x_T must be [b c h w], one row for each pair, got {list(x_T.shape)}")
    pairs, steps, walked = len(x_T), len(times) - 1, list(times)
    edits = one_each("edit", [edits] if isinstance(edits, Edit) else edits, pairs)
    ends = _ends(edits, cross, steps).to(x_T.device)
    cross_end, self_end = int(ends.max()), int(_checked("self_attention", self_attention) * steps)
    shared_cross = on_text(from_source(edits, ends, walked), 2 * pairs)
    told = [(edit.tokenizer, edit.source, edit.target) for edit in edits]
    blender = None if local_blend is None else Blender(unet, local_blend, told, walked)

    controls: list[tuple[int, Callable[[], AbstractContextManager[Any]]]] = []  # their sites are found once
    if self_end:
        controls.append((self_end, source_for_both(unet, 2 * pairs, max_tokens)))
    if cross_end:
        control = scoped(unet, shared_cross, _is("cross"))
        controls.append((cross_end, lambda: control))

    def attending(x_t: Tensor, t: int) -> Tensor:
        step = walked.index(t)
        with ExitStack() as blocks:
            for end, control in controls:
                if step < end:
                    blocks.enter_context(control())
            if blender is not None:
                blocks.enter_context(blender.watching())
            return denoise(x_t, t)

    return sample(attending, torch.cat([x_T, x_T]), times, schedule, intervene=blender)


def source_for_both(
    unet: Any, prompts: int, max_tokens: int | None = None
) -> Callable[[], AbstractContextManager[None]]:
    """Blocks in which the targets' self-attention maps are the sources', at sites of at most max_tokens.

    A map is softmax(Q K^T): the targets get the sources' queries and keys. So no map is built, and every
    layer keeps its fast kernel. prompts: rows of text in a call, [sources..., targets...].
    Raises ValueError for processors that are no plain attention, for projections fused into one, and after
    a block in which every site was too large.
    """
    sites = choose(unet, _is("self"))
    if any(isinstance(processor, FusedAttnProcessor2_0) for processor in sites.values()):
        raise ValueError("the queries and keys of fused projections cannot be reached: unfuse them first")
    layers = [unet.get_submodule(site.layer) for site in sites]
    projections = [projection for layer in layers for projection in (layer.to_q, layer.to_k)]

    @contextmanager
    def block() -> Iterator[None]:
        watch = Watch(max_tokens)

        def of_source(rows: Tensor) -> Tensor:
            if watch.skips(rows.shape[1]):
                return rows
            watch.fired = True
            source, _ = text_rows(rows, prompts).chunk(2)
            return torch.cat([rows[:-prompts], source, source])

        with rewriting(projections, of_source):
            yield
        watch.refuse_silence()

    return block


def from_source(edits: Sequence[Edit], ends: Tensor, times: list[int]) -> Control:
    """The control of cross-attention; rows are [sources, targets]. ends: [b n], in steps."""
    mapper = torch.stack([edit.mapper for edit in edits]).to(ends.device)[:, None]
    kept = torch.stack([edit.kept for edit in edits]).to(ends.device)[:, None, None]
    factors = torch.stack([edit.factors for edit in edits]).to(ends.device)[:, None, None]

    def control(probs: Tensor, site: Site, t: int) -> Tensor:
        if probs.shape[-1] != mapper.shape[-1]:
            raise ValueError(
                f"the edits are of prompts of {mapper.shape[-1]} tokens, and the text that the network reads "
                f"has {probs.shape[-1]}: make them with the tokenizer of that text"
            )
        source, target = probs.chunk(2)
        edited = factors * (kept * (source @ mapper.to(probs)) + (1 - kept) * target)
        held = times.index(t) < ends[:, None, None]
        return torch.cat([source, torch.where(held, edited, target).to(probs)])

    return control


def _ends(edits: Sequence[Edit], cross: float | Mapping[str, float], steps: int) -> Tensor:
    """For each pair and token of the target, [b n], the first step that is no longer the source's."""
    shares = dict(cross) if isinstance(cross, Mapping) else {EVERY_OTHER: cross}
    # int() of Python's floats, as in the authors' code: a float32 may round to the other side.
    counts = {
        word: int(_checked(f"cross of {word!r}", share) * (steps + 1)) for word, share in shares.items()
    }
    ends = torch.full((len(edits), len(edits[0].kept)), counts.pop(EVERY_OTHER, steps + 1))
    for row, edit in zip(ends, edits, strict=True):
        for word, count in counts.items():
            row[token_positions(edit.tokenizer, edit.target, word)] = count
    return ends


def _is(kind: str) -> Callable[[Site], bool]:
    return lambda site: site.kind == kind


def _checked(name: str, share: float) -> float:
    if not 0 <= share <= 1:
        raise ValueError(f"{name} must be a share of the walk, in [0, 1], got {share}")
    return share
