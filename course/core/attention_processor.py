"""The attention processor through which controls see and change attention maps, and the sites it stands at.

Lessons and methods use `course.core.attention`, which puts it in place and takes it away again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers.models import attention_processor as peer
from torch import Tensor

# What they compute is what `Controlled` computes, so one may stand in for the other.
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
    def layer(self) -> str:
        """The attention module's own name in the unet."""
        return self.name.removesuffix(".processor")

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


def choose(unet: HasAttention, where: Callable[[Site], bool]) -> dict[Site, Any]:
    """The processors of the sites that `where` accepts.

    Raises ValueError when it accepts none, and for a processor that is no plain attention.
    """
    there = {Site(name): processor for name, processor in unet.attn_processors.items()}
    chosen = {site: processor for site, processor in there.items() if where(site)}
    if not chosen:
        names = "".join(f"\n  {site.name} ({site.kind}, {site.place})" for site in there)
        raise ValueError(f"`where` chose none of the {len(there)} attention sites:{names}")
    for site, processor in chosen.items():
        if not isinstance(processor, (Controlled, *_KNOWN)):
            raise ValueError(
                f"the {type(processor).__name__} at {site.name} is not plain attention, which is all that a "
                "control can stand in for: leave that site out, or set the model's default processors first"
            )
    return chosen


def install(unet: HasAttention, processors: Mapping[Site, Any]) -> None:
    """Put these processors in their places, and leave the others."""
    # A new dict each time: set_attn_processor empties the one that it is given.
    unet.set_attn_processor({**unet.attn_processors, **{site.name: p for site, p in processors.items()}})


class Watch:
    """What one block of control knows of the running call."""

    def __init__(self, max_tokens: int | None) -> None:
        self.max_tokens = max_tokens
        self.t: int | None = None
        self.fewest_skipped: int | None = None
        self.fired = False

    def read_timestep(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A hook before each call of the unet."""
        timestep = torch.as_tensor(kwargs["timestep"] if "timestep" in kwargs else args[1]).flatten()
        if (timestep != timestep[0]).any():
            raise ValueError(f"a controlled call needs one timestep for all rows, not {timestep.tolist()}")
        self.t = int(timestep[0])

    def skips(self, queries: int) -> bool:
        """Whether a site with so many queries keeps its fast processor."""
        if self.max_tokens is None or queries <= self.max_tokens:
            return False
        self.fewest_skipped = min(queries, self.fewest_skipped or queries)
        return True

    def refuse_silence(self) -> None:
        """Raise ValueError when all that was chosen was too large to be controlled."""
        if self.fewest_skipped and not self.fired:
            raise ValueError(
                f"max_tokens={self.max_tokens} left out every chosen site; "
                f"the smallest has {self.fewest_skipped} queries"
            )


class Controlled:
    """diffusers' AttnProcessor, with the probabilities passed through a control."""

    def __init__(self, site: Site, control: Control, watch: Watch, before: Any) -> None:
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
        """What the control makes of the map, after those of the blocks around this one."""
        if isinstance(self.before, Controlled):
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
