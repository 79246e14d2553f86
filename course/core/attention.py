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

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from diffusers.models import attention_processor as peer
from torch import Tensor

# What they compute is what `_Controlled` computes, so one may stand in for the other.
_KNOWN = (
    peer.AttnProcessor,
    peer.AttnProcessor2_0,
    peer.FusedAttnProcessor2_0,
    peer.SlicedAttnProcessor,
    peer.XFormersAttnProcessor,
)


class HasAttention(Protocol):
    """Any diffusers model whose attention processors can be read and set."""

    @property
    def attn_processors(self) -> dict[str, Any]: ...
    def set_attn_processor(self, processor: dict[str, Any]) -> None: ...
    def register_forward_pre_hook(self, hook: Any, *, with_kwargs: bool) -> Any: ...


@dataclass(frozen=True)
class Site:
    """One attention layer, named as in `unet.attn_processors`."""

    name: str

    @property
    def kind(self) -> str:
        """Either "self" (keys are pixels) or "cross" (keys are the prompt's tokens)."""
        return "cross" if ".attn2." in self.name else "self"

    @property
    def place(self) -> str:
        """The part of the unet: "down", "mid" or "up"."""
        return self.name.partition("_")[0]


# (probs [rows heads queries keys], site, t) -> probs of the same shape
Control = Callable[[Tensor, Site, int], Tensor]


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
    before = _choose(unet, where)
    watch = _Watch(max_tokens)
    handle = unet.register_forward_pre_hook(watch.read_timestep, with_kwargs=True)
    try:
        _install(unet, {site: _Controlled(site, control, watch, there) for site, there in before.items()})
        yield list(before)
    finally:
        handle.remove()
        _install(unet, before)
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

    def keep(probs: Tensor, site: Site, t: int) -> Tensor:
        rows = (probs if prompts is None else text_rows(probs, prompts)).detach()
        of_site = store.maps.setdefault(site, [])
        if len(of_site) == len(store.times):  # the first site of a new call
            store.times.append(t)
        of_site.append(rows.clone() if heads else rows.mean(1))
        return probs

    with controlled(unet, keep, where, max_tokens):
        yield store


def _over_heads(rows: Tensor) -> Tensor:
    return rows.mean(1) if rows.ndim == 3 else rows


def _choose(unet: HasAttention, where: Callable[[Site], bool]) -> dict[Site, Any]:
    there = {Site(name): processor for name, processor in unet.attn_processors.items()}
    chosen = {site: processor for site, processor in there.items() if where(site)}
    if not chosen:
        names = "".join(f"\n  {site.name} ({site.kind}, {site.place})" for site in there)
        raise ValueError(f"`where` chose none of the {len(there)} attention sites:{names}")
    for site, processor in chosen.items():
        if not isinstance(processor, (_Controlled, *_KNOWN)):
            raise ValueError(
                f"the {type(processor).__name__} at {site.name} is not plain attention, which is all that a "
                "control can stand in for: leave that site out, or set the model's default processors first"
            )
    return chosen


def _install(unet: HasAttention, processors: Mapping[Site, Any]) -> None:
    # A new dict each time: set_attn_processor empties the one that it is given.
    unet.set_attn_processor({**unet.attn_processors, **{site.name: p for site, p in processors.items()}})


class _Watch:
    """What one block knows of the running call."""

    def __init__(self, max_tokens: int | None) -> None:
        self.max_tokens = max_tokens
        self.t: int | None = None
        self.fewest_skipped: int | None = None
        self.fired = False

    def read_timestep(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        timestep = torch.as_tensor(kwargs["timestep"] if "timestep" in kwargs else args[1]).flatten()
        if (timestep != timestep[0]).any():
            raise ValueError(f"a controlled call needs one timestep for all rows, not {timestep.tolist()}")
        self.t = int(timestep[0])

    def skips(self, queries: int) -> bool:
        if self.max_tokens is None or queries <= self.max_tokens:
            return False
        self.fewest_skipped = min(queries, self.fewest_skipped or queries)
        return True

    def refuse_silence(self) -> None:
        if self.fewest_skipped and not self.fired:
            raise ValueError(
                f"max_tokens={self.max_tokens} left out every chosen site; "
                f"the smallest has {self.fewest_skipped} queries"
            )


class _Controlled:
    """diffusers' AttnProcessor, with the probabilities passed through a control."""

    def __init__(self, site: Site, control: Control, watch: _Watch, before: Any) -> None:
        self.site, self.control, self.watch, self.before = site, control, watch, before

    def __call__(
        self,
        attn: peer.Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        if (encoder_hidden_states is None) != (self.site.kind == "self"):
            raise ValueError(f"{self.site.name} is not the {self.site.kind}-attention its name says")
        queries = hidden_states.shape[1] if hidden_states.ndim == 3 else hidden_states[0, 0].numel()
        if self.watch.skips(queries):
            more = {} if temb is None else {"temb": temb}
            return self.before(attn, hidden_states, encoder_hidden_states, attention_mask, **more)
        x = hidden_states if attn.spatial_norm is None else attn.spatial_norm(hidden_states, temb)
        if hidden_states.ndim == 4:
            x = x.flatten(2).mT
        query, key, value, bias = _project(attn, x, encoder_hidden_states, attention_mask)
        # In half precision small probabilities are rounded, and the scores may overflow (SD 2.1).
        wide = torch.promote_types(query.dtype, torch.float32)
        scores = query.to(wide) @ key.to(wide).mT * attn.scale
        probs = self.edit((scores if bias is None else scores + bias).softmax(-1, dtype=wide))
        out = (probs.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        out = attn.to_out[1](attn.to_out[0](out))
        if hidden_states.ndim == 4:
            out = out.mT.reshape(hidden_states.shape)
        if attn.residual_connection:
            out = out + hidden_states
        return out / attn.rescale_output_factor

    def edit(self, probs: Tensor) -> Tensor:
        if isinstance(self.before, _Controlled):
            probs = self.before.edit(probs)
        if self.watch.skips(probs.shape[-2]):
            return probs
        if self.watch.t is None:
            raise ValueError("call the whole unet: its timestep argument is where a control's t comes from")
        self.watch.fired = True
        edited = self.control(probs, self.site, self.watch.t)
        if not isinstance(edited, Tensor) or edited.shape != probs.shape:
            got = f"shape {list(edited.shape)}" if isinstance(edited, Tensor) else type(edited).__name__
            raise ValueError(
                f"a control must return shape {list(probs.shape)}, got {got} at {self.site.name}"
            )
        return edited


def _project(
    attn: peer.Attention, x: Tensor, text: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Queries, keys, values, each [rows heads tokens dim], and what is added to the scores, if anything."""
    rows, keys = (x if text is None else text).shape[:2]
    if mask is not None:
        if not mask.is_floating_point():
            raise ValueError(f"an attention mask must be a float added to the scores, not {mask.dtype}")
        mask = attn.prepare_attention_mask(mask, keys, rows)
        mask = mask.view(rows, attn.heads, -1, mask.shape[-1])
    if attn.group_norm is not None:
        x = attn.group_norm(x.mT).mT
    if text is None:
        text = x
    elif attn.norm_cross:
        text = attn.norm_encoder_hidden_states(text)
    query, key, value = (
        projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        for projected in (attn.to_q(x), attn.to_k(text), attn.to_v(text))
    )
    query = query if attn.norm_q is None else attn.norm_q(query)
    key = key if attn.norm_k is None else attn.norm_k(key)
    return query, key, value, mask
