"""What the lesson on DDIM inversion says of `invert`, on data whose exact noise is known."""

from itertools import pairwise

import pytest
import torch

from course.core.exact import mixture
from course.core.guidance import classifier_free
from course.core.sampling import invert, last, sample

MEAN, STD = 2.0, 0.5
X = torch.linspace(0.5, 3.5, 13, dtype=torch.float64)


def exact_noise(schedule, x_0, start):
    """Where the walk of infinitely many steps ends: each keeps its place in the crowd."""
    a, n = schedule.signal(start), schedule.noise(start)
    return a * MEAN + (a * a * STD * STD + n * n) ** 0.5 * (x_0 - MEAN) / STD


def errors(schedule, denoise, evaluate):
    for steps in (20, 40, 80, 160):
        times = schedule.times(steps)
        yield last(invert(denoise, X, times, schedule, evaluate)) - exact_noise(schedule, X, times[0])


@pytest.mark.parametrize("evaluate", ["source", "target"])
def test_twice_the_steps_halve_the_error_of_the_noise(full, gaussian, evaluate):
    found = [float(each.abs().max()) for each in errors(full, gaussian(full, MEAN, STD), evaluate)]
    assert all(1.6 < more / less < 2.4 for more, less in pairwise(found))


def test_the_two_conventions_err_to_opposite_sides(full, gaussian):
    denoise = gaussian(full, MEAN, STD)
    for source, target in zip(errors(full, denoise, "source"), errors(full, denoise, "target"), strict=True):
        assert source[-1] < 0 < target[-1]


def test_guidance_on_the_way_down_breaks_the_round_trip(full):
    def predict(x, t, text):
        return mixture(full, text[0].double(), 0.05)(x, t)

    null, text = torch.tensor([[[-1.0], [0.0], [1.0]]]), torch.tensor([[[0.0], [1.0], [1.0]]])
    plain, guided = (classifier_free(predict, text, null, scale) for scale in (1.0, 7.5))
    rng, times = torch.Generator().manual_seed(0), full.times(50)
    x = torch.tensor([[0.0], [1.0]]).repeat(20, 1) + 0.2 * torch.randn(40, 1, generator=rng).double()

    def error(up, down):
        return float((last(sample(down, last(invert(up, x, times, full)), times, full)) - x).abs().mean())

    assert error(plain, plain) < 0.1 < 0.5 < error(plain, guided)
