"""python -m benchmarks.editors [--rounds N] [--steps N] [--model NAME] [--tiny] [--json F] [--markdown F]

What the methods of chapters 2 and 3 add to the U-Net calls that they need, backward passes included, and how
long a rival takes for the same: for DiffEdit diffusers' pipeline, for null-text inversion the loop that one
writes first, which asks for both rows of guidance at every try. Where a model predicts v, diffusers'
inversion reads it at a level that it was not asked at; DiffEdit's pictures then differ.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, DiffusionPipeline
from torch import Tensor, nn

from benchmarks import report
from benchmarks.timing import milliseconds, race, ratio
from benchmarks.tiny import random_model
from course.core.model import Model, load
from course.core.sampling import Step, ddim_step, invert, last, sample
from course.core.tuning import training
from course.embeddings.imagic import imagic
from course.embeddings.null_text import null_text
from course.embeddings.pivotal import pivotal
from course.inversion.contrast import contrast, contrast_mask
from course.inversion.ddib import ddib
from course.inversion.diffedit import diffedit

ROOT = Path(__file__).parents[1]
SOURCE, TARGET = "a red car on grass", "a blue car on grass"
SCALE, RATIO, DRAWS, TRIES = 7.5, 0.8, 10, 10
HEAD = "method | calls | calls alone, ms | method, ms | over calls alone | rival | ms | over rival | differs"
Call = tuple[tuple[Any, ...], dict[str, Any], str]  # of the U-Net, and what takes a gradient from it


@dataclass(frozen=True)
class Job:
    """walk: from latents to latents. rival: another way to do `whole`, which is the walk unless given."""

    name: str
    walk: Callable[[], Tensor]
    whole: Callable[[], Tensor] | None = None
    rival: tuple[str, Callable[[], Tensor]] | None = None


def jobs(model: Model, steps: int, tries: int = TRIES) -> Iterator[Job]:
    """The methods, on one picture."""
    times, schedule = model.schedule.times(steps), model.schedule
    image = torch.linspace(-1, 1, model.image_size).expand(1, 3, model.image_size, -1).contiguous()
    x_0 = model.encode(image)
    text, wanted, null = (model.encode_text(prompt) for prompt in (SOURCE, TARGET, ""))
    plain, other = (model.denoiser(prompt, guidance_scale=1) for prompt in (SOURCE, TARGET))
    guided = model.denoiser(TARGET, guidance_scale=SCALE)

    @torch.no_grad()
    def there_and_back() -> Tensor:
        return last(sample(guided, last(invert(plain, x_0, times, schedule)), times, schedule))

    @torch.no_grad()
    def bridge() -> Tensor:
        return ddib(plain, other, x_0, times, schedule)

    def tuned() -> Tensor:
        options: dict[str, Any] = {"embedding_steps": steps, "model_steps": steps, "generator": _generator()}
        with imagic(model.unet, model.predict, x_0, wanted, schedule, **options) as found:
            return found(0.0)

    def searched() -> Tensor:
        options: dict[str, Any] = {"inner_steps": tries, "early_stop": 0.0}
        found = null_text(model.predict, x_0, text, null, times, schedule, SCALE, **options)
        return torch.cat(list(found.nulls.values()))

    yield Job("DDIM inversion and a guided walk back", there_and_back)
    yield Job("DDIB", bridge)
    yield _diffedit(model, image, steps)
    yield Job("Imagic, both stages", tuned)
    obvious = partial(obvious_null_text, model, x_0, text, null, times, tries)
    yield Job("Null-text inversion", searched, rival=("guidance at every try", obvious))


def _diffedit(model: Model, image: Tensor, steps: int) -> Job:
    times, schedule, pipeline = model.schedule.times(steps), model.schedule, diffedit_pipeline(model)

    def edited(rows: Tensor, x_0: Tensor, generator: torch.Generator) -> Tensor:
        query, reference = (model.denoiser(prompt, guidance_scale=1) for prompt in (TARGET, SOURCE))
        given = (query, reference, rows, times, schedule)
        found = contrast(*given, draws=1, generator=generator, compat="diffusers").mean(0, keepdim=True)
        mask, guided = contrast_mask(found, compat="diffusers"), model.denoiser(TARGET, guidance_scale=SCALE)
        encode, walk = model.denoiser("", guidance_scale=1), (times, schedule, RATIO)
        return diffedit(guided, encode, x_0, mask, *walk, compat="diffusers")

    @torch.no_grad()
    def whole() -> Tensor:
        generator = _generator()
        rows = model.encode(image.expand(DRAWS, -1, -1, -1), generator)
        return model.decode(edited(rows, model.encode(image, _generator()), generator))

    def theirs() -> Tensor:
        about = {"num_inference_steps": steps, "generator": _generator()}
        again = {"inpaint_strength": RATIO, "num_inference_steps": steps}
        picture = (image + 1) / 2
        mask = pipeline.generate_mask(
            picture, [TARGET], source_prompt=[SOURCE], num_maps_per_mask=DRAWS, **about
        )
        options = {"guidance_scale": 1.0, "generator": _generator()}
        levels = pipeline.invert([""], picture, **options, **again).latents
        given = {"mask_image": torch.from_numpy(mask)[:, None].float(), "image_latents": levels}
        found = pipeline([TARGET], **given, guidance_scale=SCALE, output_type="pt", **again)
        return found.images * 2 - 1

    rows = model.encode(image.expand(DRAWS, -1, -1, -1))
    walk = torch.no_grad()(lambda: edited(rows, rows[:1], _generator()))
    return Job("DiffEdit", walk, whole, ("StableDiffusionDiffEditPipeline", theirs))


def diffedit_pipeline(model: Model) -> DiffusionPipeline:
    """diffusers' pipeline over the same weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and says so
        from diffusers import StableDiffusionDiffEditPipeline

        parts = model.pipeline().components | {"scheduler": None, "inverse_scheduler": None}
        parts.pop("image_encoder", None)
        pipeline = StableDiffusionDiffEditPipeline(**parts, requires_safety_checker=False)
    pipeline.scheduler = DDIMScheduler.from_config(model.scheduler_config)
    pipeline.inverse_scheduler = DDIMInverseScheduler.from_config(model.scheduler_config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def obvious_null_text(
    model: Model, x_0: Tensor, text: Tensor, null: Tensor, times: Sequence[int], tries: int
) -> Tensor:
    """Null embeddings [steps n d] by the loop that one writes first; the same as `null_text` finds."""
    pivot, found = pivotal(model.predict, x_0, text, times, model.schedule), []

    def guided(x_t: Tensor, null: Tensor, t: int, s: int) -> Step:
        both = model.predict(torch.cat([x_t, x_t]), t, torch.cat([null, text]))
        eps_null, eps_text = both.chunk(2)
        return ddim_step(model.schedule, x_t, eps_null + SCALE * (eps_text - eps_null), t, s)

    x_t = pivot[times[0]]
    for i, (t, s) in enumerate(pairwise(times)):
        null = nn.Parameter(null.detach().clone())
        adam = torch.optim.Adam([null], 1e-2 * (1 - i / 100))
        for _ in range(tries):
            loss = (guided(x_t, null, t, s).x_s - pivot[s]).square().mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        with torch.no_grad():
            x_t = guided(x_t, null, t, s).x_s
        found.append(null.detach())
    return torch.cat(found)


def measure(model: Model, steps: int, rounds: int, tries: int = TRIES) -> list[dict[str, Any]]:
    """One row for each method: its times in milliseconds, and how far its result is from the rival's."""
    return [_measured(model, job, rounds) for job in jobs(model, steps, tries)]


def _measured(model: Model, job: Job, rounds: int) -> dict[str, Any]:
    with recorded(model) as calls:
        job.walk()
    whole = job.whole or job.walk
    ways: dict[str, Callable[[], object]] = {"bare": partial(replay, model, calls), "walk": job.walk}
    if job.rival is not None:
        ways |= {"whole": whole, "rival": job.rival[1]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        times = race(ways, rounds)
        found: dict[str, Any] = {
            "job": job.name,
            "calls": len(calls),
            "rows": sum(len(args[0]) for args, _, _ in calls),
            "bare_ms": milliseconds(times, "bare"),
            "walk_ms": milliseconds(times, "walk"),
            "walk_over_bare": ratio(times, "walk", "bare"),
            "seconds": times,
        }
        if job.rival is not None:
            found |= {
                "rival": job.rival[0],
                "rival_ms": milliseconds(times, "rival"),
                "whole_over_rival": ratio(times, "whole", "rival"),
                "difference": float((whole() - job.rival[1]()).abs().max()),
            }
    return found


@contextmanager
def recorded(model: Model) -> Iterator[list[Call]]:
    """The U-Net's calls within the block, each with what takes a gradient from it, if anything does."""
    calls: list[Call] = []

    def watch(unet: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        text, wanted = options["encoder_hidden_states"], "nothing"
        if torch.is_grad_enabled():
            trained = any(weight.requires_grad for weight in unet.parameters())
            wanted = "weights" if trained else "text" if text.requires_grad else "nothing"
        given = tuple(each.detach() if isinstance(each, Tensor) else each for each in args)
        calls.append((given, options | {"encoder_hidden_states": text.detach()}, wanted))

    hook = model.unet.register_forward_pre_hook(watch, with_kwargs=True)
    try:
        yield calls
    finally:
        hook.remove()


def replay(model: Model, calls: Sequence[Call]) -> None:
    """The calls again, each with its backward pass, and nothing between them."""
    weights = list(model.unet.parameters())
    for args, options, wanted in calls:
        if wanted == "nothing":
            with torch.no_grad():
                model.unet(*args, **options)
            continue
        text = options["encoder_hidden_states"].clone().requires_grad_(wanted == "text")
        with training(weights) if wanted == "weights" else nullcontext():
            output = model.unet(*args, **options | {"encoder_hidden_states": text})[0]
            torch.autograd.grad(output, weights if wanted == "weights" else [text], torch.ones_like(output))


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table."""
    lines = [HEAD.split(" | "), ["---"] + ["--:"] * HEAD.count(" | ")]
    for row in rows:
        line = [row["job"], str(row["calls"]), f"{row['bare_ms']:.0f}", f"{row['walk_ms']:.0f}"]
        line.append(f"{row['walk_over_bare']:.3f}")
        if "rival" in row:
            line += [row["rival"], f"{row['rival_ms']:.0f}", f"{row['whole_over_rival']:.3f}"]
            line.append(f"{row['difference']:.0e}")
        lines.append(line + ["-"] * (len(lines[0]) - len(line)))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, and write the figures down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.editors", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="of the walks, and of each stage of Imagic")
    parser.add_argument("--tries", type=int, default=TRIES, help="of null-text inversion, at each step")
    parser.add_argument("--model", default="stickers", help="as load() takes it")
    parser.add_argument("--tiny", action="store_true", help="a random model of the stickers' shape")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "editors.json")
    parser.add_argument("--markdown", type=Path, help="page to write the table into (docs/benchmarks.md)")
    asked = parser.parse_args(arguments)
    model = random_model() if asked.tiny else load(asked.model, dtype=torch.float32)
    rows = measure(model, asked.steps, asked.rounds, asked.tries)
    print(markdown(rows))
    machine = report.machine(
        model, "random weights" if asked.tiny else asked.model, asked.steps, asked.rounds
    )
    report.write_json(asked.json, {"machine": machine, "editors": rows})
    if page := asked.markdown or (None if asked.tiny else ROOT / "docs" / "benchmarks.md"):
        report.write_page(page, markdown(rows), "editors")


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


if __name__ == "__main__":
    main()
