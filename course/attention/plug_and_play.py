"""Plug-and-Play: a picture's layout stands in a few decoder layers, and can be put into another walk."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from course.attention.decoder import Layer, injected_modules
from course.core.checks import check_option
from course.core.hooks import recording, rewriting
from course.core.sampling import Denoiser, Step, ddim_step, last, sample
from course.core.schedule import Schedule
from course.core.strength import part_redone

Compat = Literal["plug-and-play", "pnp-diffusers"]


def plug_and_play(
    unet: Any,
    denoise: Denoiser,
    guide: Denoiser,
    levels: Float[Tensor, "b c h w"] | Mapping[int, Tensor],
    times: Sequence[int],
    schedule: Schedule,
    *,
    feature_share: float = 0.8,
    attention_share: float = 0.5,
    features: Collection[Layer] | None = None,
    attention: Collection[Layer] | None = None,
    compat: Compat | None = None,
) -> Float[Tensor, "b c h w"]:
    """The target's latents: the layout of the guide, the looks of a prompt. Tumanyan et al. 2023,
    arXiv:2211.12572, Algorithm 1.

    denoise: the target prompt's, guided; a negative prompt is its own affair. guide: what inverted the
    picture, in the paper the empty prompt's at scale 1. Both call `unet`, the guide once a step. What it
    computes goes to the target's null rows and text rows alike; a guided guide's goes null to null, text to
    text, as in the authors' first code. Fast attention kernels stay: queries and keys are injected, not maps.
    levels: x_T that inversion led to, from which the guide is generated again beside the target (the paper);
    or all its latents by time, as inversion found them (pnp-diffusers). times: as the inversion's.
    feature_share, attention_share: of the steps, the noisy ones first, that inject, in [0, 1]; rounded.
    features: layers, named as in course.attention.decoder; by default the second of the second-coarsest size,
    (4, 1) in Stable Diffusion: the paper's layer 4. attention: by default all from there on.
    compat: how a share becomes steps, of 50 at 0.8: "plug-and-play", the authors' first code, injects at
    41 (its condition is i <= 40), "pnp-diffusers" at 40, cut off instead of rounded.
    Raises ValueError for a share outside [0, 1], a layer that is not there or nothing to inject from it,
    levels that lack a time, and a denoiser that does not run the chosen layers.
    """
    return last(
        plug_and_play_steps(
            unet,
            denoise,
            guide,
            levels,
            times,
            schedule,
            feature_share=feature_share,
            attention_share=attention_share,
            features=features,
            attention=attention,
            compat=compat,
        )
    )


def plug_and_play_steps(
    unet: Any,
    denoise: Denoiser,
    guide: Denoiser,
    levels: Float[Tensor, "b c h w"] | Mapping[int, Tensor],
    times: Sequence[int],
    schedule: Schedule,
    *,
    feature_share: float = 0.8,
    attention_share: float = 0.5,
    features: Collection[Layer] | None = None,
    attention: Collection[Layer] | None = None,
    compat: Compat | None = None,
) -> Iterator[Step]:
    """The target's steps in `plug_and_play`, to watch."""
    check_option("compat", compat, (None, "plug-and-play", "pnp-diffusers"))
    steps = part_redone(times, schedule, 1.0)[:-1]  # all, once it is known that times fall
    early = {
        "features": _early("feature_share", feature_share, steps, compat),
        "attention": _early("attention_share", attention_share, steps, compat),
    }
    modules = {
        "features": injected_modules(unet, "features", features) if early["features"] else {},
        "attention": injected_modules(unet, "attention", attention) if early["attention"] else {},
    }
    known = _guide_at(levels, steps, early["features"] | early["attention"])
    again, following = isinstance(levels, Tensor), dict(pairwise(times))

    def injected(x_t: Tensor, t: int) -> Tensor:
        due = {name: each for what in modules if t in early[what] for name, each in modules[what].items()}
        if not due:
            return denoise(x_t, t)
        x_guide = known.pop(t)
        with recording(due) as seen:
            eps = guide(x_guide, t)
        if again:
            known[following[t]] = ddim_step(schedule, x_guide, eps, t, following[t]).x_s
        return _with_guide(denoise, due, seen)(x_t, t)

    return sample(injected, known[steps[0]], times, schedule)


def _with_guide(
    denoise: Denoiser, modules: Mapping[str, nn.Module], seen: Mapping[str, list[Tensor]]
) -> Denoiser:
    """`denoise`, with the modules' outputs replaced by the guide's."""
    for name, outputs in seen.items():
        if len(outputs) != 1:
            raise ValueError(
                f"the guide's denoiser ran {name} {len(outputs)} times, not once: let it call this unet, "
                "once, and leave its projections unfused"
            )
    ran = set()

    def put(name: str) -> Callable[[Tensor], Tensor]:
        def edit(output: Tensor) -> Tensor:
            ran.add(name)
            saved = seen[name][0][-len(output) :]  # of a guided guide, its text rows where there is no null
            if saved.shape[1:] != output.shape[1:] or len(output) % len(saved):
                raise ValueError(
                    f"{name} gives {list(saved.shape)} for the guide and {list(output.shape)} for the "
                    "target: they must agree in size, and the target have as many rows or a multiple"
                )
            return saved.repeat(len(output) // len(saved), *[1] * (output.ndim - 1))

        return edit

    def with_guide(x_t: Tensor, t: int) -> Tensor:
        with ExitStack() as injecting:
            for name, module in modules.items():
                injecting.enter_context(rewriting({name: module}, put(name)))
            eps = denoise(x_t, t)
        if silent := [name for name in modules if name not in ran]:
            raise ValueError(f"the target's denoiser did not run {silent[0]}: let it call this unet")
        return eps

    return with_guide


def _early(name: str, share: float, steps: Sequence[int], compat: Compat | None) -> set[int]:
    """The times at which is injected."""
    if not 0 <= share <= 1:
        raise ValueError(f"{name} must be in [0, 1] (0 injects at no step), got {share}")
    exact = len(steps) * share
    counts = {None: round(exact), "plug-and-play": int(exact) + 1, "pnp-diffusers": int(exact)}
    return set(steps[: counts[compat]])


def _guide_at(
    levels: Tensor | Mapping[int, Tensor], steps: Sequence[int], injecting: set[int]
) -> dict[int, Tensor]:
    """The guide's latents at the first time and, where they are given, at those that inject."""
    if isinstance(levels, Tensor):
        return {steps[0]: levels}
    needed = [t for t in steps if t == steps[0] or t in injecting]
    if missing := [t for t in needed if t not in levels]:
        raise ValueError(f"levels lack the guide at times {missing[:8]}: invert it along the same `times`")
    return {t: levels[t] for t in needed}
