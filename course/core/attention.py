"""See and edit attention maps through diffusers' attention processors.

    with controlled(unet, control, where=lambda site: site.kind == "cross"):
        ...  # whatever calls the unet: our sampler, a diffusers pipeline, a training step

**The timestep** is read from the unet's own `timestep` argument by a hook that lives as long as the block.
The usual channel, `cross_attention_kwargs={"t": t}`, needs every caller to take part, which a pipeline does
not, and diffusers logs a warning at each layer, each step, whose processor does not know the key.

**Memory.** A chosen site builds its whole map in float32, [rows heads queries keys]; the others keep their
fast kernel. Self-attention over 4,096 tokens (64x64 latents) takes 67 MB for each head and row, over 1 GB for
one guided picture: choose cross-attention, or say `max_tokens=1024`.

**Rows.** Classifier-free guidance calls the unet once with [null rows, text rows], but at scale 1 with text
rows only, so `shape[0] // 2` is not always where the text begins: `text_rows` and `on_text` find it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from course.core.attention_processor import (
    Control,
    Controlled,
    HasAttention,
    Site,
    Watch,
    choose,
    install,
)

__all__ = [
    "Control",
    "HasAttention",
    "Maps",
    "Site",
    "controlled",
    "kept_in",
    "on_text",
    "recorded",
    "text_rows",
]


@contextmanager
def controlled(
    unet: HasAttention,
    control: Control,
    where: Callable[[Site], bool] = lambda site: True,
    max_tokens: int | None = None,
) -> Iterator[list[Site]]:
    """The chosen sites; within the block their attention maps pass through `control`.

    probs is float32 (float64 in a float64 model), carries gradients, and sums to 1 over the keys; what comes
    back need not. max_tokens: sites with more queries than this keep their fast processor.
    Blocks nest. On a site that two of them chose, the outer control runs first and the inner gets its answer.
    Raises ValueError when no site is chosen, when a chosen site's processor does something of its own (an
    IP-Adapter's, say), when `control` gives back another shape, when the rows of a call are at different
    timesteps, and on leaving when max_tokens kept every chosen site from ever being controlled.
    """
    before = choose(unet, where)
    watch = Watch(max_tokens)
    handle = unet.register_forward_pre_hook(watch.read_timestep, with_kwargs=True)
    try:
        install(unet, {site: Controlled(site, control, watch, there) for site, there in before.items()})
        yield list(before)
    finally:
        handle.remove()
        install(unet, before)
    watch.refuse_silence()


def text_rows(rows: Tensor, prompts: int) -> Tensor:
    """The rows of the `prompts` texts, without the null rows that guidance puts before them; a view.

    Raises ValueError unless there are `prompts` rows (no guidance) or twice as many (guidance).
    """
    if rows.shape[0] not in (prompts, 2 * prompts):
        raise ValueError(f"{rows.shape[0]} rows are neither {prompts} texts nor as many nulls and texts")
    return rows[-prompts:]


def on_text(control: Control, prompts: int) -> Control:
    """A control that shows `control` only the text rows, [prompts heads queries keys]."""

    def texts_only(probs: Tensor, site: Site, t: int) -> Tensor:
        edited = control(text_rows(probs, prompts), site, t)
        return torch.cat([probs[:-prompts], edited])

    return texts_only


@dataclass
class Maps:
    """Attention maps by site and step: `maps[site][i]` is that of the unet call at `times[i]`.

    Maps are [rows queries keys], or [rows heads queries keys] where heads were kept.
    """

    maps: dict[Site, list[Tensor]] = field(default_factory=dict)
    times: list[int] = field(default_factory=list)

    def mean(
        self,
        size: int | tuple[int, int],
        positions: Sequence[int],
        kind: str = "cross",
        steps: slice = slice(None),
    ) -> Tensor:
        """How much each pixel attends to the tokens at `positions`, [rows h w], in [0, 1].

        The mean over those tokens, over heads, over the sites of this kind with h x w queries (size: the
        side, or (h, w)), and over the recorded steps. Raises ValueError when nothing fits.
        """
        height, width = (size, size) if isinstance(size, int) else size
        of_kind = {site: maps for site, maps in self.maps.items() if site.kind == kind}
        queries = sorted({maps[0].shape[-2] for maps in of_kind.values()})
        found = [m for maps in of_kind.values() for m in maps[steps] if m.shape[-2] == height * width]
        if not found:
            wanted = f"{height}x{width} = {height * width} queries"
            raise ValueError(
                f"no {kind}-attention map of {wanted} was recorded; there are: {queries or 'none'}"
            )
        if len({(m.shape[0], m.shape[-1]) for m in found}) > 1:
            raise ValueError("the recorded calls differ in rows or tokens: record each kind in its own block")
        keys = found[0].shape[-1]
        if not positions or not all(0 <= p < keys for p in positions):
            raise ValueError(f"positions {list(positions)} must be one or more of 0 to {keys - 1}")
        heat = torch.stack([_over_heads(m[..., list(positions)].mean(-1)) for m in found]).mean(0)
        return heat.unflatten(-1, (height, width))


@contextmanager
def recorded(
    unet: HasAttention,
    where: Callable[[Site], bool] = lambda site: site.kind == "cross",
    *,
    heads: bool = False,
    prompts: int | None = None,
    max_tokens: int | None = None,
) -> Iterator[Maps]:
    """A store that fills with the maps of every unet call in the block; nothing is changed.

    Heads are averaged unless `heads`. prompts: keep the text rows alone (see `text_rows`).
    Inside a `controlled` block it records the edited maps, around one the unedited. Maps are detached and
    stay on the model's device: 50 steps of all of SD 1.5's cross-attention are 400 MB a row, so choose your
    sites.
    """
    store = Maps()
    with controlled(unet, kept_in(store, heads=heads, prompts=prompts), where, max_tokens):
        yield store


def kept_in(store: Maps, *, heads: bool = False, prompts: int | None = None) -> Control:
    """The control of `recorded`: it puts the maps into the store and changes nothing."""

    def keep(probs: Tensor, site: Site, t: int) -> Tensor:
        rows = (probs if prompts is None else text_rows(probs, prompts)).detach()
        of_site = store.maps.setdefault(site, [])
        if len(of_site) == len(store.times):  # the first site of a new call
            store.times.append(t)
        of_site.append(rows.clone() if heads else rows.mean(1))
        return probs

    return keep


def _over_heads(rows: Tensor) -> Tensor:
    return rows.mean(1) if rows.ndim == 3 else rows
