"""SDEdit: exact on Gaussian data, equal to its peers, and never silent about bad input."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from course.core.sampling import last, noise_like, sample
from course.core.schedule import CLEAN, Schedule
from course.core.strength import part_redone
from course.noise_editing.sdedit import sdedit, sdedit_steps
from tests.noise_editing.parity import img2img_difference

MEAN, STD, GUIDE = 1.0, 0.5, -2.0

relaxed = settings(deadline=None, max_examples=50)  # the first call may be slow


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def half(rows, size=8):
    """A mask that lets the left half change."""
    mask = torch.zeros(rows, 1, size, size, dtype=torch.float64)
    mask[..., : size // 2] = 1
    return mask


# Exact answers: data N(MEAN, STD^2), a guide of GUIDE everywhere.


def expected(schedule, t, eta):
    """Mean of the edit, and its variance, when the walk is exact."""
    a, n = schedule.signal(t), schedule.noise(t)
    variance = a * a * STD * STD + n * n
    if eta == 0:  # the monotone map from the law of x_t to that of x_0
        pull = STD / variance**0.5
        return MEAN + pull * a * (GUIDE - MEAN), (pull * n) ** 2
    pull = a * STD * STD / variance  # a draw from the law of x_0 given x_t
    return MEAN + pull * a * (GUIDE - MEAN), (pull * n) ** 2 + (STD * n) ** 2 / variance


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("strength", [0.1, 0.3, 0.5, 0.8, 1.0])
def test_the_edit_has_the_exact_mean_and_spread(exact, gaussian, generator, eta, strength):
    guide, times = torch.full((1, 1, 100, 100), GUIDE, dtype=torch.float64), exact.times(999)
    out = sdedit(
        gaussian(exact, MEAN, STD),
        guide,
        drawn(1, *guide.shape),
        times,
        exact,
        strength,
        eta=eta,
        generator=generator,
    )
    mean, variance = expected(exact, part_redone(times, exact, strength)[0], eta)
    assert float(out.mean()) == pytest.approx(mean, abs=0.03)
    assert float(out.var()) == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_distance_to_the_guide_grows_with_strength_from_nothing(exact, gaussian, eta):
    guide, times = torch.full((1, 1, 50, 50), GUIDE, dtype=torch.float64), exact.times(500)

    def distance(strength):
        generator = torch.Generator().manual_seed(2)
        walk = (gaussian(exact, MEAN, STD), guide, drawn(1, *guide.shape), times, exact, strength)
        return float((sdedit(*walk, eta=eta, generator=generator) - guide).square().mean().sqrt())

    distances = [distance(strength) for strength in (0.002, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)]
    assert distances == sorted(distances)
    assert distances[0] < 0.05 and distances[-1] > 2.9
    assert all(further - near > 0.1 for near, further in pairwise(distances[:-1]))


def test_repeats_draw_nearer_to_the_data_each_time(exact, gaussian, generator):
    """The stochastic walk keeps the data's law, and shrinks what is off by the same factor each time."""
    guide, times, strength = torch.full((1, 1, 100, 100), GUIDE, dtype=torch.float64), exact.times(200), 0.4
    a, n = (f(part_redone(times, exact, strength)[0]) for f in (exact.signal, exact.noise))
    factor = a * a * STD * STD / (a * a * STD * STD + n * n)
    denoise = gaussian(exact, MEAN, STD)
    steps = list(
        sdedit_steps(
            denoise, guide, drawn(1, *guide.shape), times, exact, strength, repeats=4, generator=generator
        )
    )
    ends = [step.x_s for step in steps if step.s == CLEAN]
    assert len(ends) == 4
    for k, end in enumerate(ends, 1):
        assert float(end.mean()) == pytest.approx(MEAN + factor**k * (GUIDE - MEAN), abs=0.04)
    assert float(ends[-1].std()) == pytest.approx(STD, rel=0.05)


# The mask.


@pytest.mark.parametrize("repeats", [1, 3])
def test_what_the_mask_keeps_is_the_guide_to_the_last_bit(sd15, gaussian, generator, repeats):
    guide, mask = drawn(0, 2, 4, 8, 8), half(1)
    walk = (gaussian(sd15, MEAN, STD), guide, drawn(1, 2, 4, 8, 8), sd15.times(20), sd15, 0.6)
    out = sdedit(*walk, mask=mask, repeats=repeats, generator=generator)
    kept = (mask == 0).expand_as(guide)
    assert torch.equal(out[kept], guide[kept])
    assert (out - guide)[~kept].abs().min() > 1e-6


def test_a_mask_of_ones_is_no_mask(sd15, gaussian):
    guide = drawn(0, 2, 4, 8, 8)
    walk = (gaussian(sd15, MEAN, STD), guide, drawn(1, 2, 4, 8, 8), sd15.times(20), sd15, 0.6)
    assert torch.equal(sdedit(*walk, mask=torch.ones(1, 1, 8, 8), eta=0), sdedit(*walk, eta=0))


def test_between_repeats_the_guide_s_edited_region_is_the_last_sample(sd15, gaussian):
    guide, mask, denoise = drawn(0, 1, 4, 8, 8), half(1), gaussian(sd15, MEAN, STD)
    noise, times = drawn(1, 1, 4, 8, 8), sd15.times(10)
    generator = torch.Generator().manual_seed(3)
    twice = sdedit(denoise, guide, noise, times, sd15, mask=mask, repeats=2, eta=0, generator=generator)
    generator = torch.Generator().manual_seed(3)
    once = sdedit(denoise, guide, noise, times, sd15, mask=mask, eta=0, generator=generator)
    noise = noise_like(guide, generator)
    assert_close(twice, sdedit(denoise, once, noise, times, sd15, mask=mask, eta=0, generator=generator))
    assert (twice - once).abs().max() > 0.1


@pytest.mark.parametrize(("compat", "late"), [(None, False), ("official", True)])
def test_the_kept_region_has_the_level_just_reached(exact, gaussian, generator, compat, late):
    guide = torch.full((1, 1, 100, 100), GUIDE, dtype=torch.float64)
    walk = (gaussian(exact, MEAN, STD), guide, drawn(1, *guide.shape), exact.times(10), exact, 0.7)
    for step in sdedit_steps(*walk, mask=half(1, 100), generator=generator, compat=compat):
        kept = step.x_s[..., 50:]
        level = step.t if late else step.s
        assert float(kept.std()) == pytest.approx(exact.noise(level), rel=0.05)
        assert float(kept.mean()) == pytest.approx(exact.signal(level) * GUIDE, abs=0.03)


def test_the_kept_region_s_noise_is_fresh_at_each_step_and_one_in_the_official_code(
    exact, gaussian, generator
):
    guide = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    walk = (gaussian(exact, MEAN, STD), guide, drawn(1, *guide.shape), exact.times(10), exact, 0.7)

    def noises(compat):
        steps = list(sdedit_steps(*walk, mask=half(1), generator=generator, compat=compat))
        return [step.x_s[..., 4:] / exact.noise(step.t if compat else step.s) for step in steps[:3]]

    one, two, _ = noises(None)
    assert (one - two).abs().max() > 0.1
    assert all(torch.allclose(noise, drawn(1, 1, 1, 8, 8)[..., 4:]) for noise in noises("official"))


# The peers.


@pytest.mark.parametrize(
    ("strength", "steps", "guidance_scale"), [(0.8, 10, 7.5), (1.0, 4, 7.5), (1.0, 3, 1.0), (0.29, 50, 1.0)]
)
def test_parity_with_img2img(tiny, strength, steps, guidance_scale):
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(4)) * 2 - 1
    assert img2img_difference(tiny, images, "a red cat", strength, steps, guidance_scale) <= 1e-4


def official(denoise, guide, mask, alpha_bar, levels, repeats, noise, generator):
    """The authors' loop, from its formulas: ancestral steps with the posterior's variance."""
    before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    betas = 1 - alpha_bar / before
    for repeat in range(repeats):
        e = noise if repeat == 0 else noise_like(guide, generator)
        x = guide * alpha_bar[levels - 1].sqrt() + e * (1 - alpha_bar[levels - 1]).sqrt()
        for i in reversed(range(levels)):
            eps = denoise(x, i)
            mean = (x - betas[i] / (1 - alpha_bar[i]).sqrt() * eps) / (1 - betas[i]).sqrt()
            variance = betas[i] * (1 - before[i]) / (1 - alpha_bar[i])
            edited = mean + (i > 0) * variance.sqrt() * noise_like(x, generator)
            x = torch.where(mask == 1, edited, guide * alpha_bar[i].sqrt() + e * (1 - alpha_bar[i]).sqrt())
        guide = torch.where(mask == 1, x, guide)
    return x


@pytest.mark.parametrize("repeats", [1, 2])
def test_parity_with_the_official_code(gaussian, repeats):
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 50, dtype=torch.float64) * 5, 0)
    schedule = Schedule(alpha_bar)
    denoise, guide, mask, noise = (
        gaussian(schedule, MEAN, STD),
        drawn(0, 1, 3, 8, 8),
        half(1),
        drawn(1, 1, 3, 8, 8),
    )
    theirs = official(denoise, guide, mask, alpha_bar, 20, repeats, noise, torch.Generator().manual_seed(5))
    ours = sdedit(
        denoise,
        guide,
        noise,
        schedule.times(50),
        schedule,
        20 / 50,
        mask=mask,
        repeats=repeats,
        generator=torch.Generator().manual_seed(5),
        compat="official",
    )
    assert_close(ours, theirs, rtol=0, atol=1e-10)
    right = sdedit(denoise, guide, noise, schedule.times(50), schedule, 20 / 50, mask=mask)
    assert (right - guide)[..., 4:].abs().max() == 0 < (theirs - guide)[..., 4:].abs().max()


def test_the_walk_from_the_noised_guide_is_the_sampler_s(sd15, gaussian):
    guide, noise, denoise = drawn(0, 2, 4, 8, 8), drawn(1, 2, 4, 8, 8), gaussian(sd15, MEAN, STD)
    times = sd15.times(10)[5:]
    out = last(sample(denoise, sd15.add_noise(guide, noise, times[0]), times, sd15))
    assert torch.equal(sdedit(denoise, guide, noise, sd15.times(10), sd15, 0.5, eta=0), out)


# Bad input: refused at the door, before the model is asked.


def refuse(match, guide=None, noise=None, times=None, **options):
    schedule = Schedule.from_config({"steps_offset": 1})
    guide = torch.zeros(2, 4, 8, 8) if guide is None else guide
    noise = torch.zeros_like(guide) if noise is None else noise

    def asked(x_t, t):
        raise AssertionError("the model was asked")

    times = schedule.times(10) if times is None else times
    with pytest.raises(ValueError, match=match):
        sdedit_steps(asked, guide, noise, times, schedule, **options)


@relaxed
@given(st.floats(allow_nan=True, allow_infinity=True).filter(lambda x: not 0 < x <= 1))
def test_strength_outside_its_range_is_refused(strength):
    refuse(r"strength must be in \(0, 1\]", strength=strength)
    refuse(r"strength must be in \(0, 1\]", strength=strength, compat="diffusers")


@relaxed
@given(st.floats(1e-9, 1e-3))
def test_a_strength_that_leaves_no_step_is_refused(strength):
    refuse("leaves none of 10 steps", strength=strength)
    refuse("leaves none of 10 steps", strength=strength, compat="diffusers")


@relaxed
@given(st.one_of(st.integers(max_value=0), st.floats(0, 3), st.booleans()))
def test_repeats_below_one_or_not_whole_are_refused(repeats):
    refuse("repeats must be a whole number", repeats=repeats)


@relaxed
@given(st.floats(allow_nan=True).filter(lambda x: not 0 <= x <= 1))
def test_eta_outside_its_range_is_refused(eta):
    refuse("eta must be in", eta=eta)


@relaxed
@given(st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(lambda shape: shape != [2, 4, 8, 8]))
def test_noise_of_another_shape_is_refused(shape):
    refuse("must have one shape", noise=torch.zeros(shape))
    refuse("must have one shape", guide=torch.zeros(shape), noise=torch.zeros(2, 4, 8, 8))


@relaxed
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5).filter(
        lambda s: s not in ([1, 1, 8, 8], [2, 1, 8, 8])
    )
)
def test_a_mask_of_another_size_is_refused(shape):
    refuse("the mask must be", mask=torch.ones(shape))


@relaxed
@given(st.floats(width=32).filter(lambda x: x not in (0, 1)), st.integers(0, 63))
def test_a_mask_that_is_not_binary_is_refused(value, place):
    mask = torch.ones(1, 1, 8, 8)
    mask.view(-1)[place] = value
    refuse("must hold 0 and 1 only", mask=mask)


def test_other_bad_input_is_refused():
    mask = torch.ones(2, 1, 8, 8)
    mask[1] = 0
    refuse("the mask is empty", mask=mask)
    refuse("the mask is empty", mask=torch.zeros(1, 1, 8, 8, dtype=torch.bool))
    refuse("compat must be one of", compat="peer")
    refuse("must be floating point", guide=torch.zeros(2, 4, 8, 8, dtype=torch.int64))
    refuse("must have one shape", guide=torch.zeros(0, 4, 8, 8))
    refuse("times must be at least two and fall", times=[500, 700, CLEAN])
    refuse("times must be at least two and fall", times=[])
