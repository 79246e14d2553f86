"""Attention control that is entered at every step of a walk, and is gone in between.

    scope = scoped(unet, control, where)      # finds the sites once
    def denoise_controlled(x_t, t):
        with scope:                           # costs microseconds; `controlled` looks through the whole unet
            return denoise(x_t, t)

A walk is a generator: whoever watches it may use the unet between two steps, walk a second walk beside it, or
never finish it. A control that stayed in place for the whole walk would reach into all of that.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from course.core.attention_processor import Control, Controlled, HasAttention, Site, Watch, choose


class _Scope(AbstractContextManager[list[Site]]):
    def __init__(
        self, unet: Any, control: Control, where: Callable[[Site], bool], max_tokens: int | None
    ) -> None:
        self.unet, self.control, self.max_tokens = unet, control, max_tokens
        self.layers = {site: unet.get_submodule(site.layer) for site in choose(unet, where)}
        self.undo: list[tuple[ExitStack, Watch]] = []

    def __enter__(self) -> list[Site]:
        watch = Watch(self.max_tokens)
        with ExitStack() as undo:
            undo.callback(self.unet.register_forward_pre_hook(watch.read_timestep, with_kwargs=True).remove)
            for site, layer in self.layers.items():
                before = layer.processor
                undo.callback(layer.set_processor, before)
                layer.set_processor(Controlled(site, self.control, watch, before))
            self.undo.append((undo.pop_all(), watch))
        return list(self.layers)

    def __exit__(self, kind: Any, *_: Any) -> None:
        undo, watch = self.undo.pop()
        undo.close()
        if kind is None:
            watch.refuse_silence()


def scoped(
    unet: HasAttention,
    control: Control,
    where: Callable[[Site], bool] = lambda site: True,
    max_tokens: int | None = None,
) -> AbstractContextManager[list[Site]]:
    """A block like that of `controlled`, which can be entered again and again.

    Arguments, nesting and refusals as there; the sites are chosen now, and processors that are no plain
    attention are refused now.
    """
    return _Scope(unet, control, where, max_tokens)
