"""Stochastic refinement: exact under an oracle, equal to diffusers' ancestral steps, right in its sign."""

from itertools import pairwise

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from course.core.sampling import last
from course.noise_editing.stochastic_refinement import (
    draw_levels,
    refinement_loss,
    refinement_schedule,
    residual,
    residual_steps,
    stochastic_refinement,
)

SHAPE = (2, 3, 8, 8)
SCHEDULE = refinement_schedule(200, 1e-6, 5e-2)

relaxed = settings(deadline=None, max_examples=50)  # the first call may be slow


def drawn(seed, *shape):
    return torch.randn(shape or SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def column(alpha_bar):
    return alpha_bar.view(-1, 1, 1, 1)


def oracle(r_0):
    """The denoiser that knows the residual."""

    def denoise(r_t, alpha_bar, blurred):
        level = column(alpha_bar)
        return (r_t - level.sqrt() * r_0) / (1 - level).sqrt()

    return denoise


def exact(mean, std):
    """The exact denoiser of residuals that are N(mean, std^2), each place for itself."""

    def denoise(r_t, alpha_bar, blurred):
        level = column(alpha_bar)
        return (1 - level).sqrt() * (r_t - level.sqrt() * mean) / (level * std**2 + 1 - level)

    return denoise


PREDICTORS = {
    "itself": lambda y: y,
    "nothing": torch.zeros_like,
    "wild": lambda y: 7 * y.sin() - 3,
    "blurrier": lambda y: y.mean((2, 3), keepdim=True).expand_as(y),
}

# The oracle: prediction plus residual is the sharp picture, whatever the prediction.


@pytest.mark.parametrize("name", PREDICTORS)
@pytest.mark.parametrize(("steps", "samples", "scale"), [(1, 1, 1.0), (10, 1, 0.08), (200, 3, 2.0)])
def test_an_oracle_gives_the_sharp_picture_for_any_predictor(name, steps, samples, scale):
    sharp, blurred, predict = drawn(0), drawn(1), PREDICTORS[name]
    denoise = oracle(residual(predict, sharp, blurred, scale))
    out = stochastic_refinement(
        predict,
        denoise,
        blurred,
        SCHEDULE.times(steps),
        SCHEDULE,
        samples=samples,
        scale=scale,
        generator=seeded(),
    )
    assert_close(out, sharp)


def test_the_residual_is_sharp_less_prediction_and_not_blurred_less_prediction():
    sharp, blurred, predict = drawn(0), drawn(1), PREDICTORS["wild"]
    assert_close(predict(blurred) + 0.5 * residual(predict, sharp, blurred, 0.5), sharp)
    wrong = oracle((blurred - predict(blurred)) / 0.5)
    out = stochastic_refinement(predict, wrong, blurred, SCHEDULE.times(5), SCHEDULE, scale=0.5)
    assert_close(out, blurred)  # what the public code's target would bring back: the blur


def test_the_loss_has_that_sign_too():
    """It is 0 for a denoiser that knows sharp - prediction, and far from 0 for one of the other sign."""
    sharp, blurred, eps, predict = drawn(0), drawn(1), drawn(2), PREDICTORS["itself"]
    alpha_bar = torch.tensor([0.3, 0.8], dtype=torch.float64)

    def loss(r_0, **options):
        given = (predict, oracle(r_0), sharp, blurred, alpha_bar, eps)
        return float(refinement_loss(*given, scale=0.5, **options))

    for norm in ("l1", "l2"):
        assert loss((sharp - blurred) / 0.5, norm=norm) < 1e-12
        assert loss((blurred - sharp) / 0.5, norm=norm) > 0.5


def test_samples_have_the_posterior_s_spread_and_their_mean_is_nearer():
    """Residuals N(1, 0.5^2): one draw misses the truth by twice the variance, the mean of n by 1 + 1/n."""
    blurred, guess = torch.zeros(1, 1, 64, 64, dtype=torch.float64), PREDICTORS["nothing"]
    sharp = 1 + 0.5 * drawn(5, *blurred.shape)
    given = (guess, exact(1.0, 0.5), blurred, SCHEDULE.times(200), SCHEDULE)
    draws = {n: stochastic_refinement(*given, samples=n, generator=seeded(n)) for n in (1, 4)}
    assert float(draws[1].mean()) == pytest.approx(1, abs=0.02)
    assert float(draws[1].std()) == pytest.approx(0.5, rel=0.05)
    for n, out in draws.items():
        missed = float((out - sharp).square().mean())
        assert missed == pytest.approx(0.25 * (1 + 1 / n), rel=0.08)


def test_the_mean_of_samples_is_no_worse_than_one_on_average():
    sharp, blurred, predict = drawn(0), drawn(1), PREDICTORS["blurrier"]
    given = (predict, exact(0.3, 1.0), blurred, SCHEDULE.times(10), SCHEDULE)
    singles = [stochastic_refinement(*given, generator=seeded(i)) for i in range(8)]
    one = torch.stack(singles).sub(sharp).square().mean()
    assert torch.stack(singles).mean(0).sub(sharp).square().mean() < one
    together = stochastic_refinement(*given, samples=8, generator=seeded(100))
    assert together.sub(sharp).square().mean() < one


def test_one_step_is_the_mean_and_more_steps_spread():
    blurred = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    given = (PREDICTORS["nothing"], exact(1.0, 0.5), blurred)
    spread = [
        float(stochastic_refinement(*given, SCHEDULE.times(n), SCHEDULE, generator=seeded()).std())
        for n in (1, 3, 10, 50)
    ]
    assert spread[0] < 0.1 and spread == sorted(spread)


def test_the_predictor_runs_once_and_the_denoiser_at_each_level():
    asked, levels = [], []

    def predict(y):
        asked.append(y)
        return y

    def denoise(r_t, alpha_bar, blurred):
        levels.append(alpha_bar)
        return torch.zeros_like(r_t)

    times = SCHEDULE.times(4)
    stochastic_refinement(predict, denoise, drawn(0), times, SCHEDULE, samples=2)
    assert len(asked) == 1 and len(levels) == 8
    assert_close(torch.stack(levels)[:4, 0], SCHEDULE.alpha_bar[list(times[:-1])])
    assert all(level.shape == (2,) for level in levels)


@pytest.mark.parametrize("steps", [4, 50])
def test_the_steps_are_diffusers_ancestral_steps(steps):
    r_0, blurred, times = drawn(0).float(), drawn(1).float(), SCHEDULE.times(steps)

    def denoise(r_t, alpha_bar, y):
        return (r_t + y).sin() * column(alpha_bar)

    ours = last(residual_steps(denoise, blurred, times, SCHEDULE, generator=seeded(3)))
    peer = DDPMScheduler(
        200, 1e-6, 5e-2, "linear", clip_sample=False, variance_type="fixed_small", timestep_spacing="trailing"
    )
    peer.set_timesteps(steps)
    assert peer.timesteps.tolist() == list(times[:-1])
    draws = seeded(3)
    r_t = torch.randn(r_0.shape, generator=draws)
    for t in peer.timesteps:
        alpha_bar = peer.alphas_cumprod[t].expand(len(r_t))
        r_t = peer.step(denoise(r_t, alpha_bar, blurred), t, r_t, generator=draws).prev_sample
    assert_close(ours, r_t, rtol=0, atol=1e-4)


# Training.


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.predictor, self.denoiser = (nn.Conv2d(n, 3, 3, padding=1, dtype=torch.float64) for n in (3, 6))

    def denoise(self, r_t, alpha_bar, y):
        return self.denoiser(torch.cat([r_t, y], 1)) * column(alpha_bar)


def test_the_gradient_reaches_the_predictor_through_the_residual():
    pair, level = Pair(), torch.tensor([0.4, 0.9], dtype=torch.float64)
    loss = refinement_loss(pair.predictor, pair.denoise, drawn(0), drawn(1), level, drawn(2))
    loss.backward()
    assert all(weight.grad.abs().max() > 1e-4 for weight in pair.parameters())


def test_the_gradient_pulls_the_prediction_towards_the_sharp_picture():
    """Beside a denoiser that expects a small residual, nothing but the residual can make the loss smaller."""
    guess = torch.zeros(SHAPE, dtype=torch.float64, requires_grad=True)
    sharp, level = 2 + drawn(0).abs(), torch.full((2,), 0.5, dtype=torch.float64)
    refinement_loss(lambda y: guess, exact(0.0, 1.0), sharp, drawn(1), level, 0 * sharp).backward()
    assert (guess.grad < 0).all()


def test_the_scale_brings_the_residual_to_the_schedule_s_unit():
    seen = []

    def denoise(r_t, alpha_bar, y):
        seen.append(r_t)
        return torch.zeros_like(r_t)

    sharp, nearly_one = 0.05 * drawn(0), torch.full((2,), 1 - 1e-9, dtype=torch.float64)
    refinement_loss(PREDICTORS["nothing"], denoise, sharp, drawn(1), nearly_one, drawn(2), scale=0.05)
    assert_close(seen[0], drawn(0), rtol=0, atol=1e-3)


def test_l1_and_l2_are_what_they_say():
    def nothing(r_t, alpha_bar, y):
        return torch.zeros_like(r_t)

    eps = drawn(2)
    given = (PREDICTORS["itself"], nothing, drawn(0), drawn(1), torch.ones(2).double(), eps)
    assert_close(refinement_loss(*given), eps.abs().mean())
    assert_close(refinement_loss(*given, norm="l2"), eps.square().mean())


def test_levels_lie_in_their_intervals_and_fill_them():
    schedule = refinement_schedule(10, 0.01, 0.3)
    alpha_bar, t = draw_levels(schedule, 4000, seeded())
    ends = [1.0, *schedule.alpha_bar.tolist()]
    assert set(t.tolist()) == set(range(10))
    for i, (high, low) in enumerate(pairwise(ends)):
        found = alpha_bar[t == i].double()
        assert low - 1e-6 <= found.min() and found.max() <= high + 1e-6
        middle = (high**0.5 + low**0.5) / 2
        assert float(found.sqrt().mean()) == pytest.approx(middle, abs=0.1 * (high**0.5 - low**0.5))
        assert float(found.max() - found.min()) > 0.9 * (high - low)
    assert torch.equal(alpha_bar, draw_levels(schedule, 4000, seeded())[0])


def test_the_schedule_is_the_paper_s_line_of_betas():
    schedule = refinement_schedule()
    betas = 1 - schedule.alpha_bar[1:] / schedule.alpha_bar[:-1]
    assert len(schedule.alpha_bar) == 2000 and float(betas[-1]) == pytest.approx(1e-2)
    assert float(1 - schedule.alpha_bar[0]) == pytest.approx(1e-6, rel=1e-3)
    assert float(betas.diff().std() / betas.diff().mean()) < 1e-6
    assert schedule.times(5)[0] == 1999


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(16, 16), (24, 40)])
def test_any_size_and_type_goes_through(dtype, size):
    pair, blurred = Pair().to(dtype), torch.zeros(1, 3, *size, dtype=dtype)
    with torch.no_grad():
        out = stochastic_refinement(pair.predictor, pair.denoise, blurred, SCHEDULE.times(3), SCHEDULE)
    assert out.shape == blurred.shape and out.dtype == dtype and out.isfinite().all()


# Bad input: refused before a network is asked.


def never(*given):
    raise AssertionError("a network was asked")


def refuse_loss(match, shapes=(SHAPE, SHAPE, SHAPE), alpha_bar=None, **options):
    sharp, blurred, eps = map(torch.zeros, shapes)
    alpha_bar = torch.full((2,), 0.5) if alpha_bar is None else alpha_bar
    with pytest.raises(ValueError, match=match):
        refinement_loss(never, never, sharp, blurred, alpha_bar, eps, **options)


@relaxed
@given(st.one_of(st.integers(max_value=0), st.floats(0, 3), st.booleans()))
def test_samples_below_one_or_not_whole_are_refused(samples):
    with pytest.raises(ValueError, match="samples must be a whole number from 1 up"):
        stochastic_refinement(never, never, drawn(0), SCHEDULE.times(3), SCHEDULE, samples=samples)


@relaxed
@given(st.floats(allow_nan=True).filter(lambda x: not 0 < x < float("inf")))
def test_a_scale_that_is_not_above_0_is_refused(scale):
    refuse_loss("scale must be above 0", scale=scale)
    with pytest.raises(ValueError, match="scale must be above 0"):
        stochastic_refinement(never, never, drawn(0), SCHEDULE.times(3), SCHEDULE, scale=scale)


@relaxed
@given(st.floats(allow_nan=True, width=32).filter(lambda x: not 0 < x <= 1))
def test_levels_outside_their_range_are_refused(level):
    refuse_loss(r"alpha_bar must lie in \(0, 1\]", alpha_bar=torch.tensor([0.5, level]))


def test_other_bad_input_is_refused():
    refuse_loss("norm must be one of", norm="huber")
    for i in range(3):
        shapes = [SHAPE] * 3
        shapes[i] = (1, 3, 8, 8)
        refuse_loss("must have one shape", shapes=shapes)
    refuse_loss("must have one shape", alpha_bar=torch.full((1,), 0.5))
    with pytest.raises(ValueError, match="times must be at least two and fall"):
        stochastic_refinement(lambda y: y, never, drawn(0), [5, 7], SCHEDULE)
