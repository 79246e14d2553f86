"""What makes one guided U-Net call faster? Each idea beside the plain call, and how far its answer is off."""

import copy
import os
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import milliseconds, race, ratio
from course.core.model import Model
from course.core.speed import traced

PLAIN = "plain call"
T = 500
Way = Callable[[], Tensor]


def measure(model: Model, prompt: str, rounds: int, compiled: bool = False) -> list[dict[str, Any]]:
    """One row for each idea: milliseconds, its time over the plain call's, and the largest difference of eps.

    compiled: try torch.compile too, which needs a C++ compiler and takes a minute or more.
    """
    ways = variants(model, prompt, compiled)
    expected = ways[PLAIN]()
    times = race(ways, rounds)
    return [
        {
            "idea": name,
            "ms": milliseconds(times, name),
            "over_plain": ratio(times, name, PLAIN),
            "difference": float((way().float() - expected).abs().max()),
            "seconds": times[name],
        }
        for name, way in ways.items()
    ]


def variants(model: Model, prompt: str, compiled: bool = False) -> dict[str, Way]:
    """The ideas, by name. Each predicts eps for the rows [null, text] of one picture."""
    text = model.encode_text(["", prompt])
    x_t = model.noise(1, torch.Generator().manual_seed(0)).expand(2, -1, -1, -1).contiguous()
    fast, unet = traced(model, patience=0), model.unet

    def call(unet: nn.Module, x_t: Tensor = x_t, text: Tensor = text) -> Way:
        def way() -> Tensor:
            output = unet(x_t, T, encoder_hidden_states=text, return_dict=False)[0]
            return model.schedule.to_eps(output, x_t, T)

        return way

    def in_inference_mode() -> Tensor:
        with torch.inference_mode():
            return call(unet)().clone()

    ways: dict[str, Way] = {
        PLAIN: call(unet),
        "two calls of one row": lambda: torch.cat(
            [model.predict(x_t[i : i + 1], T, text[i : i + 1]) for i in (0, 1)]
        ),
        "inference mode": in_inference_mode,
        "channels last": call(
            copy.deepcopy(unet).to(memory_format=torch.channels_last),
            x_t.to(memory_format=torch.channels_last),
        ),
        "bfloat16": call(copy.deepcopy(unet).bfloat16(), x_t.bfloat16(), text.bfloat16()),
        "fused query, key and value": call(_fused(unet)),
        "text's keys and values kept": call(_keeping(call, unet, (".attn2.to_k", ".attn2.to_v"))),
        "and the time's projections": call(
            _keeping(call, unet, (".attn2.to_k", ".attn2.to_v", ".time_emb_proj"))
        ),
        "traced (course.core.speed)": lambda: fast.predict(x_t, T, text),
        "traced, frozen": _script(model, x_t, text, torch.jit.freeze),
        "traced, optimize_for_inference": _script(model, x_t, text, torch.jit.optimize_for_inference),
    }
    if compiled:
        ways["torch.compile"] = call(torch.compile(copy.deepcopy(unet)))  # type: ignore[arg-type]
    for count in sorted({1, min(2, os.cpu_count() or 1)} - {torch.get_num_threads()}):
        for name in (PLAIN, "traced (course.core.speed)"):
            ways[f"{name}, {count} thread{'s' * (count > 1)}"] = _with_threads(ways[name], count)
    return ways


def _fused(unet: nn.Module) -> nn.Module:
    fused: Any = copy.deepcopy(unet)
    fused.fuse_qkv_projections()
    fused.requires_grad_(False)  # it makes new weights
    return fused


class _Kept(nn.Module):
    """Answers what its module answered once."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, *_: Any) -> Tensor:
        return self.answer


def _keeping(call: Callable[[nn.Module], Way], unet: nn.Module, ends: tuple[str, ...]) -> nn.Module:
    """A copy whose modules with such names do not compute again what only text or time decide."""
    unet = copy.deepcopy(unet)
    modules = {name: module for name, module in unet.named_modules() if name.endswith(ends)}
    answers: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, args, answer, name=name: answers.__setitem__(name, answer))
        for name, module in modules.items()
    ]
    call(unet)()
    for hook in hooks:
        hook.remove()
    for name in modules:
        parent, _, child = name.rpartition(".")
        setattr(unet.get_submodule(parent), child, _Kept(answers[name]))
    return unet


def _script(model: Model, x_t: Tensor, text: Tensor, finish: Callable[[Any], Any]) -> Way:
    """TorchScript with the weights made constants of it, which an edit of the weights no longer reaches."""
    fast = traced(model, patience=0)
    fast.predict(x_t, T, text)
    (script,) = fast._traces.values()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = finish(script)
    t = torch.tensor(T, device=x_t.device)

    def way() -> Tensor:
        with torch.no_grad():
            return model.schedule.to_eps(script(x_t, t, text), x_t, T)

    return way


def _with_threads(way: Way, count: int) -> Way:
    def limited() -> Tensor:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            return way()
        finally:
            torch.set_num_threads(before)

    return limited
