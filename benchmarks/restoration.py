"""python -m benchmarks.restoration [--rounds N] [--steps N] [--tiny] [--json F] [--markdown F]

What Palette and stochastic refinement add to the network calls that they need, on one sticker picture.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor

from benchmarks.job import Job, command, measured, run
from course.core.model import Model
from course.core.sampling import last
from course.core.schedule import Schedule
from course.noise_editing.palette import palette
from course.noise_editing.stochastic_refinement import residual_steps
from course.train import palette as nets
from course.train import refinement
from course.world.vocabulary import SIZE


def jobs(steps: int) -> Iterator[Job]:
    """The methods with networks of the shipped shapes. Their weights are random: they change no time."""
    levels = Schedule.from_config(nets.LEVELS | {"timestep_spacing": "trailing"})
    x, noise = torch.randn(2, 1, 3, SIZE, SIZE, generator=_generator()).unbind()
    mask = torch.zeros(1, 1, SIZE, SIZE)
    mask[..., SIZE // 2 :] = 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nets.Palette(UNet2DModel(**nets.CONFIG)).requires_grad_(False)
        parts = (refinement.ConvUNet(**each) for each in (refinement.PREDICTOR, refinement.DENOISER))
        pair = refinement.Refinement(*parts).requires_grad_(False)
    residuals = refinement.schedule()

    @torch.no_grad()
    def mended(*part: Tensor) -> Tensor:
        return palette(model, x, noise, levels.times(steps), levels, *part, generator=_generator())

    @torch.no_grad()
    def residual() -> Tensor:
        times = residuals.times(steps)
        return last(residual_steps(pair.denoise, x, times, residuals, generator=_generator()))

    yield Job("Palette, colours", mended, unet=model.unet)
    yield Job("Palette, a part filled in", partial(mended, mask, x), unet=model.unet)
    yield Job("Stochastic refinement, a residual", residual, unet=pair.denoiser)


def measure(model: Model, steps: int, rounds: int) -> list[dict[str, Any]]:
    """One row for each method: its times in milliseconds."""
    return [measured(model, job, rounds) for job in jobs(steps)]


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, and write the figures down."""
    asked = command("restoration", __doc__).parse_args(arguments)
    run("restoration", asked, lambda model: measure(model, asked.steps, asked.rounds))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


if __name__ == "__main__":
    main()
