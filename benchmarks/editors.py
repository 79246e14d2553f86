"""python -m benchmarks.editors [--rounds N] [--steps N] [--model NAME] [--tiny] [--json F] [--markdown F]

What the methods of chapters 2 and 3 add to the U-Net calls that they need, backward passes included, and how
long a rival takes for the same: for DiffEdit diffusers' pipeline, for null-text inversion the loop that one
writes first, which asks for both rows of guidance at every try. Where a model predicts v, diffusers'
inversion reads it at a level that it was not asked at; DiffEdit's pictures then differ.
"""

import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, DiffusionPipeline
from torch import Tensor, nn

from benchmarks.job import Job, command, measured, run
from course.core.model import Model
from course.core.sampling import Step, ddim_step, invert, last, sample
from course.embeddings.imagic import imagic
from course.embeddings.null_text import null_text
from course.embeddings.pivotal import pivotal
from course.inversion.contrast import contrast, contrast_mask
from course.inversion.ddib import ddib
from course.inversion.diffedit import diffedit

SOURCE, TARGET = "a red car on grass", "a blue car on grass"
SCALE, RATIO, DRAWS, TRIES = 7.5, 0.8, 10, 10


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
    return [measured(model, job, rounds) for job in jobs(model, steps, tries)]


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, and write the figures down."""
    parser = command("editors", __doc__)
    parser.add_argument("--tries", type=int, default=TRIES, help="of null-text inversion, at each step")
    asked = parser.parse_args(arguments)
    run("editors", asked, lambda model: measure(model, asked.steps, asked.rounds, asked.tries))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


if __name__ == "__main__":
    main()
