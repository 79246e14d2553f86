"""DDIB: the monotone map between Gaussians, a cycle that closes like 1 / N, and equal to its peers."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from course.core.exact import mixture
from course.core.guidance import classifier_free
from course.core.sampling import invert, last, sample
from course.core.schedule import CLEAN, Schedule
from course.inversion.ddib import clipped, ddib, ddib_steps
from tests.inversion.parity import ddib_difference

ONE, TWO = (2.0, 0.5), (-1.0, 1.5)  # mean and standard deviation of the two domains

relaxed = settings(deadline=None, max_examples=30)  # the first call may be slow


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def in_domain(seed, mean, std, *shape):
    return mean + std * drawn(seed, *shape)


# Exact answers: Gaussian domains.


def monotone(x, one, two):
    """The map that keeps the order of the points and takes the one Gaussian to the other."""
    return two[0] + two[1] * (x - one[0]) / one[1]


@pytest.mark.parametrize("evaluate", ["source", "target"])
@pytest.mark.parametrize(("one", "two"), [(ONE, TWO), (TWO, ONE), ((0.0, 1.0), (3.0, 0.2))])
def test_between_gaussians_it_is_the_monotone_map(full, gaussian, one, two, evaluate):
    x, times = in_domain(0, *one, 4, 2, 8), full.times(1000)
    out = ddib(gaussian(full, *one), gaussian(full, *two), x, times, full, evaluate=evaluate)
    assert_close(out, monotone(x, one, two), rtol=0, atol=0.1)


def with_leftover(schedule, x, one, two, start):
    """The same where a little signal is left in the shared noise, which then carries the means along."""
    a, n = schedule.signal(start), schedule.noise(start)
    wide = [(a * a * std * std + n * n) ** 0.5 for _, std in (one, two)]
    x_T = a * one[0] + wide[0] * (x - one[0]) / one[1]
    return two[0] + two[1] * (x_T - a * two[0]) / wide[1]


def test_what_signal_is_left_in_the_noise_moves_the_result(gaussian, sd15):
    """Stable Diffusion's schedule ends with a signal of 0.068."""
    schedule = Schedule(sd15.alpha_bar)
    x, times = in_domain(0, *ONE, 4, 2, 8), schedule.times(1000)
    out = ddib(gaussian(schedule, *ONE), gaussian(schedule, *TWO), x, times, schedule)
    assert_close(out, with_leftover(schedule, x, ONE, TWO, times[0]), rtol=0, atol=0.03)
    assert (out - monotone(x, ONE, TWO)).abs().max() > 0.1


@pytest.mark.parametrize("evaluate", ["source", "target"])
def test_twice_the_steps_halve_the_cycle_s_error(full, gaussian, evaluate):
    one, two, x = gaussian(full, *ONE), gaussian(full, *TWO), in_domain(0, *ONE, 4, 2, 8)

    def error(steps):
        there = ddib(one, two, x, full.times(steps), full, evaluate=evaluate)
        back = ddib(two, one, there, full.times(steps), full, evaluate=evaluate)
        assert (there - x).abs().mean() > 1
        return float((back - x).abs().mean())

    errors = [error(steps) for steps in (100, 200, 400)]
    assert all(1.6 < more / less < 2.5 for more, less in pairwise(errors))
    assert errors[-1] < 0.05


def test_points_between_trained_by_heart_mixtures_come_back(full):
    """Two domains of several clusters: each point lands in one of the target's, and finds its way home."""
    one = torch.tensor([[-1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    two = torch.tensor([[-1.0, 1.0], [0.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    source, target = mixture(full, one, 0.02), mixture(full, two, 0.02)
    x = one.repeat(50, 1) + 0.02**0.5 * drawn(0, 100, 2)
    there = ddib(source, target, x, full.times(500), full)
    assert torch.cdist(there, two).min(1).values.median() < 0.3
    back = ddib(target, source, there, full.times(500), full)
    assert (back - x).norm(dim=1).mean() < 0.1 < (there - x).norm(dim=1).mean()


def test_guidance_on_the_way_there_costs_the_way_back(full):
    def predict(x, t, text):
        return mixture(full, text[0].double(), 0.1)(x, t)

    null, text = torch.tensor([[[-1.0], [1.0], [0.0]]]), torch.tensor([[[1.0], [1.0], [1.0]]])
    source, plain = (classifier_free(predict, each, null, 1.0) for each in (null, text))
    guided = classifier_free(predict, text, null, 4.0)
    x = torch.cat([drawn(0, 60, 1) * 0.1**0.5 + centre for centre in (-1.0, 0.0, 1.0)])

    def cycle_error(down):
        there = ddib(source, down, x, full.times(200), full)
        return float((ddib(plain, source, there, full.times(200), full) - x).abs().mean())

    assert cycle_error(plain) < 0.05 < 0.2 < cycle_error(guided)


# The peers.


@pytest.mark.parametrize(
    ("steps", "guidance_scale", "clip"), [(10, 1.0, None), (7, 7.5, None), (10, 1.0, 1.0)]
)
def test_parity_with_the_two_schedulers(tiny, steps, guidance_scale, clip):
    assert ddib_difference(tiny, "a red cat", "a sketch of a blue dog", steps, guidance_scale, clip) <= 1e-4


def official(source, target, x, alpha_bar, clip):
    """The authors' loops, from their formulas: level k is that of time k on the way up, the last is noise."""
    after = torch.cat([alpha_bar[1:], alpha_bar.new_zeros(1)])
    before = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])

    def guess(denoise, x, t):
        x_0 = (x - (1 - alpha_bar[t]).sqrt() * denoise(x, t)) / alpha_bar[t].sqrt()
        return x_0 if clip is None or denoise is source else x_0.clamp(-clip, clip)

    for reverse, level in ((True, after), (False, before)):
        for t in range(len(alpha_bar)) if reverse else reversed(range(len(alpha_bar))):
            x_0 = guess(source if reverse else target, x, t)
            eps = (x - alpha_bar[t].sqrt() * x_0) / (1 - alpha_bar[t]).sqrt()
            x = level[t].sqrt() * x_0 + (1 - level[t]).sqrt() * eps
    return x


@pytest.mark.parametrize("clip", [None, 1.0])
def test_the_authors_loops_which_are_one_level_off_come_to_the_same(full, gaussian, clip):
    one, two = (0.5, 0.3), (-0.2, 0.4)
    source, target, x = gaussian(full, *one), gaussian(full, *two), in_domain(0, *one, 2, 3, 8, 8)
    theirs = official(source, target, x, full.alpha_bar, clip)
    ours = ddib(source, target, x, full.times(1000), full, clip=clip)
    assert_close(ours, theirs, rtol=0, atol=0.02)


# What a bridge is.


def test_with_one_model_it_is_the_round_trip(sd15, gaussian):
    denoise, x, times = gaussian(sd15, *ONE), in_domain(0, *ONE, 3, 4, 8, 8), sd15.times(20)
    up = last(invert(denoise, x, times, sd15, "source"))
    assert torch.equal(ddib(denoise, denoise, x, times, sd15), last(sample(denoise, up, times, sd15)))


@relaxed
@given(st.integers(1, 40), st.sampled_from(["source", "target"]), st.integers(0, 9))
def test_a_constant_eps_is_undone_exactly(steps, evaluate, seed):
    schedule = Schedule.from_config({"steps_offset": 1})
    x, eps = drawn(seed, 2, 3), drawn(seed + 10, 2, 3)
    out = ddib(lambda x, t: eps, lambda x, t: eps, x, schedule.times(steps), schedule, evaluate=evaluate)
    assert_close(out, x, rtol=0, atol=1e-9)


def test_the_steps_go_up_with_the_source_and_down_with_the_target(sd15):
    asked = []

    def named(name):
        def denoise(x_t, t):
            asked.append((name, t))
            return torch.zeros_like(x_t)

        return denoise

    times, x = sd15.times(3), drawn(0, 2, 2)  # 667, 334, 1, CLEAN
    steps = ddib_steps(named("source"), named("target"), x, times, sd15)
    first = next(steps)
    assert asked == [("source", 0)] and (first.t, first.s) == (CLEAN, 1) and first.x_t is x
    moves = [(first.t, first.s), *((step.t, step.s) for step in steps)]
    assert moves == [(CLEAN, 1), (1, 334), (334, 667), (667, 334), (334, 1), (1, CLEAN)]
    assert asked == [*(("source", t) for t in (0, 1, 334)), *(("target", t) for t in (667, 334, 1))]
    asked.clear()
    ddib(named("source"), named("target"), x, times, sd15, evaluate="target")
    assert [t for _, t in asked] == [1, 334, 667, 667, 334, 1]


def test_rows_go_their_own_ways(sd15, gaussian):
    x, times = in_domain(0, *ONE, 5, 2), sd15.times(10)
    walk = (gaussian(sd15, *ONE), gaussian(sd15, *TWO))
    together = ddib(*walk, x, times, sd15)
    assert_close(together[2:3], ddib(*walk, x[2:3], times, sd15))


def test_clipping_cuts_the_guesses_and_costs_the_way_back(full, gaussian):
    one, two, x = gaussian(full, *ONE), gaussian(full, *TWO), in_domain(0, *ONE, 50, 2)
    steps = list(ddib_steps(one, two, x, full.times(100), full, clip=1.0))
    assert max(step.x_0.abs().max() for step in steps[100:]) <= 1 + 1e-9 < steps[0].x_0.abs().max()
    back = ddib(two, one, steps[-1].x_s, full.times(100), full)
    assert (back - x).abs().max() > 0.5
    wide = ddib(one, two, x, full.times(100), full, clip=1e6)
    assert_close(wide, ddib(one, two, x, full.times(100), full))


def test_a_guess_within_the_limit_is_left_alone(sd15, gaussian):
    denoise, x = gaussian(sd15, 0.0, 0.1), 0.1 * drawn(0, 4, 4)
    for t in (0, 500, 981):
        assert_close(clipped(denoise, sd15, 5.0)(x, t), denoise(x, t))


# Bad input: refused at the door, before a model is asked.


def refuse(match, times=None, **options):
    schedule = Schedule.from_config({"steps_offset": 1})

    def asked(x_t, t):
        raise AssertionError("a model was asked")

    with pytest.raises(ValueError, match=match):
        ddib_steps(asked, asked, torch.zeros(2, 2), times or schedule.times(10), schedule, **options)


@relaxed
@given(st.floats(allow_nan=True).filter(lambda x: not x > 0))
def test_a_clip_that_is_not_above_zero_is_refused(clip):
    refuse("clip must be above 0", clip=clip)


def test_other_bad_input_is_refused():
    refuse('evaluate must be "target" or "source"', evaluate="middle")
    for times in ([500], [1, 2], [CLEAN, 500]):
        refuse("times must be at least two and fall", times=times)
