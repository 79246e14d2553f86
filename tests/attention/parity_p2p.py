"""Prompt-to-Prompt as the authors' code organises it, sharing nothing with the library.

One source prompt and its edit in a batch behind their nulls, a controller that counts the attention layers of
a step, and maps of [batch * heads, queries, tokens]. Written anew after `ptp_utils.py` and the notebooks of
google/prompt-to-prompt.
"""

from dataclasses import dataclass, field

import torch
from diffusers import DDIMScheduler
from torch.nn import functional


@dataclass
class Controller:
    """mapper [n n] of a swap, or alignment (source_of [n], kept [n]) of a refinement; factors [n] on top."""

    steps: int
    layers: int
    tokens: int
    mapper: torch.Tensor | None = None
    alignment: tuple[torch.Tensor, torch.Tensor] | None = None
    factors: torch.Tensor | None = None
    cross: dict[int | None, float] = field(
        default_factory=lambda: {None: 0.8}
    )  # by position, None = the rest
    self_share: float = 0.4
    largest: int = 16**2
    blend: dict | None = None
    step: int = 0
    seen: int = 0
    stored: list = field(default_factory=list)
    sums: list | None = None

    def __post_init__(self):
        self.held = torch.zeros(self.steps + 1, self.tokens)
        self.held[: int(self.cross.get(None, 1.0) * (self.steps + 1))] = 1
        for position, share in self.cross.items():
            if position is not None:
                self.held[:, position] = 0
                self.held[: int(share * (self.steps + 1)), position] = 1

    def __call__(self, probs, is_cross):
        half = len(probs) // 2  # the nulls come first
        heads = half // 2
        source, edited = probs[half : half + heads], probs[half + heads :]
        if is_cross:
            changed = self.edited(source, edited)
            held = self.held[self.step]
            edited = held * changed + (1 - held) * edited
        elif self.step < int(self.steps * self.self_share) and probs.shape[1] <= self.largest:
            edited = source
        probs = torch.cat([probs[: half + heads], edited])
        if is_cross and probs.shape[1] <= 32**2:
            self.stored.append(probs[half:])
        self.seen += 1
        if self.seen == self.layers:
            self.sums = (
                self.stored
                if self.sums is None
                else [a + b for a, b in zip(self.sums, self.stored, strict=True)]
            )
            self.seen, self.step, self.stored = 0, self.step + 1, []
        return probs

    def edited(self, source, own):
        if self.mapper is not None:
            changed = torch.einsum("hpw,wn->hpn", source, self.mapper)
        else:
            partner, kept = self.alignment
            changed = source[:, :, partner] * kept + own * (1 - kept)
        return changed if self.factors is None else changed * self.factors

    def after_step(self, x):
        """Local blend; `step` has already been counted on."""
        if self.blend is None or self.step <= int(self.blend["start"] * self.steps):
            return x
        side = self.blend["side"]
        maps = [each for each in self.sums if each.shape[1] == side**2]
        maps = torch.cat([each.reshape(2, -1, 1, side, side, self.tokens) for each in maps], dim=1)
        mask = self.mask(maps, self.blend["words"], x, pool=True)
        if "subtract" in self.blend:
            mask = mask & ~self.mask(maps, self.blend["subtract"], x, pool=False)
        return x[:1] + mask.float() * (x - x[:1])

    def mask(self, maps, places, x, pool):
        chosen = torch.zeros(2, 1, 1, 1, 1, self.tokens)
        for row, positions in enumerate(places):
            chosen[row, ..., positions] = 1
        heat = (maps * chosen).sum(-1).mean(1)
        heat = functional.max_pool2d(heat, 3, 1, padding=1) if pool else heat
        heat = functional.interpolate(heat, size=x.shape[2:])
        heat = heat / heat.max(2, keepdim=True)[0].max(3, keepdim=True)[0]
        high = heat > self.blend["threshold"]
        return high[:1] | high


class Asking:
    """A processor that hands the probabilities to the controller."""

    def __init__(self, controller):
        self.controller = controller

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = map(
            attn.head_to_batch_dim, (attn.to_q(hidden_states), attn.to_k(text), attn.to_v(text))
        )
        probs = self.controller(attn.get_attention_scores(query, key), encoder_hidden_states is not None)
        return attn.to_out[0](attn.batch_to_head_dim(torch.bmm(probs, value)))


def run(unet, config, x_T, texts, null, scale, controller):
    """Latents [2 c h w] of source and edit; texts [2 n d]. The unet gets its own processors back."""
    before = dict(unet.attn_processors)
    controller.layers = len(before)
    unet.set_attn_processor({name: Asking(controller) for name in before})
    scheduler = DDIMScheduler.from_config(config)
    scheduler.set_timesteps(controller.steps)
    x, context = torch.cat([x_T, x_T]), torch.cat([null.expand_as(texts), texts])
    try:
        with torch.no_grad():
            for t in scheduler.timesteps:
                eps_null, eps_text = unet(torch.cat([x, x]), t, encoder_hidden_states=context).sample.chunk(2)
                x = scheduler.step(eps_null + scale * (eps_text - eps_null), t, x).prev_sample
                x = controller.after_step(x)
    finally:
        unet.set_attn_processor(before)
    return x
