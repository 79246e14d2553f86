"""DiffEdit: contrast and edit exact on Gaussian data, equal to its peer, and never silent about bad input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from course.core.exact import gaussian as gaussian_of
from course.core.sampling import invert, last, sample
from course.core.schedule import CLEAN, Schedule
from course.core.strength import part_redone
from course.inversion.contrast import contrast, contrast_mask
from course.inversion.diffedit import diffedit, diffedit_steps
from tests.inversion.parity import diffedit_differences, invert_difference, mask_difference

SHAPE = (2, 4, 8, 8)

relaxed = settings(deadline=None, max_examples=50)  # the first call may be slow


def drawn(seed, *shape):
    return torch.randn(shape or SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def half(rows=1, size=8):
    """A mask that lets the left half change."""
    mask = torch.zeros(rows, 1, size, size, dtype=torch.float64)
    mask[..., : size // 2] = 1
    return mask


# The contrast: exact for Gaussian data of two means.


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("std", [0.3, 1.0])
def test_the_contrast_of_two_means_is_their_distance_as_the_noise_lets_it_through(
    sd15, generator, std, strength
):
    means = drawn(1), drawn(2)
    query, reference = (gaussian_of(sd15, mean, std**2) for mean in means)
    times = sd15.times(20)
    found = contrast(query, reference, drawn(0), times, sd15, strength, draws=3, generator=generator)
    t = part_redone(times, sd15, strength)[0]
    a, n = sd15.signal(t), sd15.noise(t)
    passed = a * n / (a * a * std * std + n * n)
    assert_close(found, passed * (means[0] - means[1]).abs().mean(1, keepdim=True))


@pytest.mark.parametrize("std", [0.3, 1.0, 3.0])
def test_it_is_greatest_where_noise_and_signal_are_as_the_data_s_spread(sd15, gaussian, std):
    query, reference, times = gaussian(sd15, 1.0, std), gaussian(sd15, 0.0, std), sd15.times(1000 - 1)
    strengths = [k / 50 for k in range(1, 51)]
    heights = [
        float(contrast(query, reference, drawn(0), times, sd15, each, draws=1).mean()) for each in strengths
    ]
    best = part_redone(times, sd15, strengths[heights.index(max(heights))])[0]
    assert sd15.noise(best) / sd15.signal(best) == pytest.approx(std, rel=0.1)


def test_each_draw_has_a_noise_of_its_own_and_the_mean_of_many_is_steadier(sd15):
    def nonlinear(x_t, t):
        return x_t.sin()

    def still(x_t, t):
        return torch.zeros_like(x_t)

    def found(seed, draws):
        generator = torch.Generator().manual_seed(seed)
        return contrast(nonlinear, still, drawn(0), sd15.times(10), sd15, draws=draws, generator=generator)

    assert torch.equal(found(0, 2), found(0, 2))
    assert not torch.equal(found(0, 1), found(1, 1))
    few, many = ((found(0, draws) - found(1, draws)).abs().mean() for draws in (1, 16))
    assert many < few / 2


def test_diffusers_counts_steps_where_the_paper_takes_a_share_of_the_time_axis(sd15):
    asked = []

    def watched(x_t, t):
        asked.append(t)
        return torch.zeros_like(x_t)

    for compat in (None, "diffusers"):
        contrast(watched, watched, drawn(0), sd15.times(5), sd15, draws=1, compat=compat)
    assert asked == [401, 401, 201, 201]  # times 801, 601, 401, 201, 1; int(5 * 0.5) is 2


# The mask.


@pytest.mark.parametrize("compat", [None, "diffusers"])
def test_where_only_a_region_differs_the_mask_is_that_region(sd15, generator, compat):
    region = half(2) * torch.tensor([1.0, 0.0]).repeat_interleave(4)[:, None]  # the upper left quarter
    query, reference = (gaussian_of(sd15, mean, 0.25) for mean in (region.expand(SHAPE), 0.0))
    found = contrast(query, reference, drawn(0), sd15.times(10), sd15, generator=generator)
    assert torch.equal(contrast_mask(found, compat=compat), region)


def test_the_papers_rule_rescales_each_picture_to_its_own_range():
    levels = torch.linspace(0, 1, 64, dtype=torch.float64).reshape(1, 1, 8, 8)
    mask = contrast_mask(levels, extremes=0.0)
    assert torch.equal(mask, (levels > 0.5).double())
    both = torch.cat([levels, 7 + 100 * levels])
    assert torch.equal(contrast_mask(both, extremes=0.0), torch.cat([mask, mask]))
    assert [int(contrast_mask(levels, share, extremes=0.0).sum()) for share in (0.0, 0.25, 0.75)] == [
        63,
        48,
        16,
    ]


def test_diffusers_rule_is_one_and_a_half_means_of_the_whole_batch():
    found = drawn(3).abs()[:, :1]
    found[1] *= 5
    assert torch.equal(contrast_mask(found, compat="diffusers"), (found > 1.5 * found.mean()).double())
    alone = contrast_mask(found[:1], compat="diffusers")
    assert not torch.equal(alone, contrast_mask(found, compat="diffusers")[:1])
    assert torch.equal(contrast_mask(found[:1]), contrast_mask(found)[:1])


def test_one_hot_cell_does_not_kill_the_mask():
    found, expected = 0.1 + half() * 0.9, half()
    expected[..., 7, 7] = 1
    for heat, options in ((50.0, {}), (5.0, {"compat": "diffusers"})):
        found[..., 7, 7] = heat
        assert torch.equal(contrast_mask(found, **options), expected)
        assert contrast_mask(found, extremes=0.0).sum() == 1


def test_no_contrast_no_mask_but_diffusers_lets_all_change():
    nothing = torch.zeros(2, 1, 8, 8)
    assert contrast_mask(nothing).sum() == contrast_mask(nothing + 3).sum() == 0
    assert contrast_mask(nothing, compat="diffusers").all()


def test_equal_prompts_leave_the_picture_as_it_is(tiny):
    denoise, x_0, times = (
        tiny.denoiser("a red cat", guidance_scale=1),
        drawn(0).float(),
        tiny.schedule.times(5),
    )
    found = contrast(denoise, denoise, x_0, times, tiny.schedule, draws=2)
    mask = contrast_mask(found)
    assert found.abs().max() == 0 and mask.shape == (2, 1, 8, 8)
    walk = (tiny.denoiser("a red cat"), tiny.denoiser("", guidance_scale=1), x_0, mask, times, tiny.schedule)
    assert torch.equal(diffedit(*walk), x_0)


# The edit: exact for denoisers of independent places, so that inside and outside do not see each other.


@pytest.mark.parametrize("ratio", [0.3, 0.8, 1.0])
@pytest.mark.parametrize("evaluate", ["source", "target"])
def test_inside_the_mask_it_is_encode_and_decode_and_outside_the_picture(sd15, gaussian, ratio, evaluate):
    x_0, query, encode = drawn(0), gaussian(sd15, 1.0, 0.5), gaussian(sd15, 0.0, 1.0)
    times = sd15.times(20)
    out = diffedit(query, encode, x_0, half(), times, sd15, ratio, evaluate=evaluate)
    walked = part_redone(times, sd15, ratio)
    inside = last(sample(query, last(invert(encode, x_0, walked, sd15, evaluate)), walked, sd15))
    assert torch.equal(out[..., :4], inside[..., :4])
    assert torch.equal(out[..., 4:], x_0[..., 4:])


def test_the_edit_follows_the_monotone_map_inside(full, gaussian):
    """At ratio 1 encoding and decoding are DDIB, from the encoder's Gaussian to the query's."""
    x_0, one, two = 0.5 + 0.3 * drawn(0), (0.5, 0.3), (-1.0, 0.6)
    walk = (gaussian(full, *two), gaussian(full, *one), x_0, half(), full.times(500), full, 1.0)
    inside = two[0] + two[1] * (x_0 - one[0]) / one[1]
    assert_close(diffedit(*walk)[..., :4], inside[..., :4], rtol=0, atol=0.05)


def test_the_further_it_is_encoded_the_further_it_moves(sd15, gaussian):
    x_0, walk = drawn(0), (gaussian(sd15, 2.0, 0.5), gaussian(sd15, 0.0, 1.0))
    ratios = (0.1, 0.3, 0.5, 0.7, 1.0)
    moved = [
        float((diffedit(*walk, x_0, half(), sd15.times(50), sd15, ratio) - x_0).abs().mean())
        for ratio in ratios
    ]
    assert moved == sorted(moved) and moved[0] < 0.2 < moved[-1]


def test_a_full_mask_under_the_same_prompt_is_the_reconstruction(sd15, gaussian):
    x_0, denoise = drawn(0), gaussian(sd15, 0.0, 1.0)
    out = diffedit(denoise, denoise, x_0, torch.ones(1, 1, 8, 8), sd15.times(200), sd15)
    assert_close(out, x_0, rtol=0, atol=0.05)


@pytest.mark.parametrize("ratio", [0.3, 1.0])
def test_an_empty_mask_gives_the_picture_back_to_the_last_bit(sd15, gaussian, ratio):
    x_0, walk = drawn(0), (gaussian(sd15, 2.0, 0.5), gaussian(sd15, 0.0, 1.0))
    nothing = torch.zeros(1, 1, 8, 8)
    assert torch.equal(diffedit(*walk, x_0, nothing, sd15.times(10), sd15, ratio), x_0)
    late = diffedit(*walk, x_0, nothing, sd15.times(10), sd15, ratio, compat="diffusers")
    assert 0 < (late - x_0).abs().max() < 0.2  # the level of the last time it visited


@pytest.mark.parametrize("compat", [None, "diffusers"])
def test_the_kept_region_is_the_encoding_at_the_level_just_reached(sd15, gaussian, compat):
    walk = (gaussian(sd15, 1.0, 0.5), gaussian(sd15, 0.0, 1.0), drawn(0), half(), sd15.times(10), sd15)
    steps = list(diffedit_steps(*walk, 0.8, compat=compat))
    up, down = steps[:8], steps[8:]
    levels = {CLEAN: drawn(0)} | {step.s: step.x_s for step in up}
    assert [(step.t, step.s) for step in up] == [(step.s, step.t) for step in reversed(down)]
    for step in down:
        level = step.t if compat else step.s
        assert torch.equal(step.x_s[..., 4:], levels[level][..., 4:])
    assert down[0].x_t is up[-1].x_s


def test_each_picture_may_have_a_mask_of_its_own(sd15, gaussian):
    walk = (gaussian(sd15, 1.0, 0.5), gaussian(sd15, 0.0, 1.0))
    masks = torch.cat([half(), 1 - half()])
    out = diffedit(*walk, drawn(0), masks, sd15.times(10), sd15)
    for row in (0, 1):
        alone = diffedit(*walk, drawn(0)[row : row + 1], masks[row : row + 1], sd15.times(10), sd15)
        assert torch.equal(out[row : row + 1], alone)


# The peer.


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(4)) * 2 - 1


@pytest.mark.parametrize(("negatives", "steps"), [(None, 10), (("a dog", "snow"), 10), (None, 5)])
def test_parity_of_the_mask(tiny, images, negatives, steps):
    prompts = ("a photo of a cat", "a sketch of a red car")
    assert mask_difference(tiny, images, *prompts, negatives, steps=steps) == 0


@pytest.mark.parametrize(
    ("options", "steps"),
    [({}, 10), ({"encoded_with": "a red cat", "encode_scale": 7.5}, 7), ({"ratio": 1.0}, 4)],
)
def test_parity_of_the_encoding_at_every_level(tiny, images, options, steps):
    assert invert_difference(tiny, images, steps=steps, **options) <= 1e-4


@pytest.mark.parametrize(
    ("options", "steps"),
    [({}, 10), ({"encoded_with": "a red cat", "encode_scale": 7.5, "ratio": 0.5}, 10), ({"ratio": 1.0}, 4)],
)
def test_parity_of_the_edit(tiny, images, options, steps):
    peer, right = diffedit_differences(tiny, images, half(2).float(), "a blue dog", steps=steps, **options)
    assert peer <= 1e-4
    assert right > 0.01  # the pipeline's background is one level too noisy


# Bad input: refused at the door, before a model is asked.


def never(x_t, t):
    raise AssertionError("a model was asked")


def refuse(match, x_0=None, mask=None, times=None, ratio=0.8, **options):
    schedule = Schedule.from_config({"steps_offset": 1})
    x_0 = torch.zeros(SHAPE) if x_0 is None else x_0
    mask = torch.ones(1, 1, 8, 8) if mask is None else mask
    times = schedule.times(10) if times is None else times
    with pytest.raises(ValueError, match=match):
        diffedit_steps(never, never, x_0, mask, times, schedule, ratio, **options)


@relaxed
@given(st.floats(allow_nan=True).filter(lambda x: not 0 < x <= 1))
def test_a_ratio_or_strength_outside_its_range_is_refused(share):
    refuse(r"ratio must be in \(0, 1\]", ratio=share)
    schedule = Schedule.from_config({"steps_offset": 1})
    with pytest.raises(ValueError, match=r"strength must be in \(0, 1\]"):
        contrast(never, never, torch.zeros(SHAPE), schedule.times(10), schedule, share)


@relaxed
@given(st.one_of(st.integers(max_value=0), st.floats(0, 3), st.booleans()))
def test_draws_below_one_or_not_whole_are_refused(draws):
    schedule = Schedule.from_config({"steps_offset": 1})
    with pytest.raises(ValueError, match="draws must be a whole number"):
        contrast(never, never, torch.zeros(SHAPE), schedule.times(10), schedule, draws=draws)


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


@relaxed
@given(st.floats(allow_nan=True))
def test_thresholds_and_extremes_outside_their_ranges_are_refused(value):
    found = torch.rand(1, 1, 4, 4)
    if not 0 <= value < 1:
        with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\)"):
            contrast_mask(found, value)
    if not 0 <= value < 0.5:
        with pytest.raises(ValueError, match=r"extremes must be in \[0, 0.5\)"):
            contrast_mask(found, extremes=value)


def test_other_bad_input_is_refused():
    refuse("compat must be one of", compat="paper")
    refuse('evaluate must be "target" or "source"', evaluate="middle")
    refuse("leaves none of 10 steps: raise the ratio", ratio=1e-4)
    refuse("times must be at least two and fall", times=[500, 700, CLEAN])
    with pytest.raises(ValueError, match="compat must be one of"):
        contrast_mask(torch.rand(1, 1, 4, 4), compat="paper")
    schedule = Schedule.from_config({"steps_offset": 1})
    with pytest.raises(ValueError, match="compat must be one of"):
        contrast(never, never, torch.zeros(SHAPE), schedule.times(10), schedule, compat="paper")
