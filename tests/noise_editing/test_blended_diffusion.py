"""Blended Diffusion: exact on Gaussian data, equal to its peer, and never silent about bad input."""

from math import pi

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from course.core.sampling import ddim_step
from course.core.schedule import CLEAN, Schedule
from course.noise_editing.blended_diffusion import blended_diffusion, blended_diffusion_steps
from course.noise_editing.loss_guidance import descending, spherical_distance
from course.noise_editing.region import dilate, paste, shrinking
from course.noise_editing.sdedit import sdedit
from tests.noise_editing.parity import inpaint_difference

MEAN, STD, SOURCE = 1.0, 0.5, -2.0

relaxed = settings(deadline=None, max_examples=50)  # the first call may be slow


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def half(rows, size=8):
    """A mask that lets the left half change."""
    mask = torch.zeros(rows, 1, size, size, dtype=torch.float64)
    mask[..., : size // 2] = 1
    return mask


# Exact answers: a denoiser of independent pixels, so that inside and outside do not see each other.


@pytest.mark.parametrize("strength", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("noises", ["fresh", "fixed"])
def test_inside_the_mask_is_sdedit_and_outside_the_source(sd15, gaussian, generator, strength, noises):
    source, noise, mask = drawn(0, 2, 4, 8, 8), drawn(1, 2, 4, 8, 8), half(1)
    denoise, times = gaussian(sd15, MEAN, STD), sd15.times(20)
    out = blended_diffusion(
        denoise, source, mask, noise, times, sd15, strength, noises=noises, generator=generator
    )
    edited = sdedit(denoise, source, noise, times, sd15, strength, eta=0)
    assert torch.equal(out[..., :4], edited[..., :4])
    assert torch.equal(out[..., 4:], source[..., 4:])


def test_a_mask_of_ones_redraws_all_and_noise_alone_decides(exact, gaussian):
    """From pure noise nothing of the source is left: the samples have the data's law."""
    shape = (1, 1, 100, 100)
    source, noise = torch.full(shape, SOURCE, dtype=torch.float64), drawn(1, *shape)
    walk = (torch.ones(1, 1, 100, 100), noise, exact.times(100), exact)
    out = blended_diffusion(gaussian(exact, MEAN, STD), source, *walk, compat="diffusers")
    other = blended_diffusion(gaussian(exact, MEAN, STD), source + 3, *walk, compat="diffusers")
    assert torch.equal(out, other)
    assert float(out.mean()) == pytest.approx(MEAN, abs=0.1)
    assert float(out.std()) == pytest.approx(STD, rel=0.1)


@pytest.mark.parametrize("noises", ["fresh", "fixed"])
@pytest.mark.parametrize(("level", "late"), [("right", False), ("before", True)])
def test_the_known_region_has_the_level_just_reached(exact, gaussian, generator, level, late, noises):
    source, times = torch.full((1, 1, 100, 100), SOURCE, dtype=torch.float64), exact.times(10)
    walk = (gaussian(exact, MEAN, STD), source, half(1, 100), drawn(1, *source.shape), times, exact, 0.7)
    for step in blended_diffusion_steps(*walk, level=level, noises=noises, generator=generator):
        kept, time = step.x_s[..., 50:], step.t if late else step.s
        assert float(kept.std()) == pytest.approx(exact.noise(time), rel=0.05)
        assert float(kept.mean()) == pytest.approx(exact.signal(time) * SOURCE, abs=0.03)
        if late:  # one step too noisy
            assert float(kept.std()) > 1.03 * exact.noise(step.s)


def test_the_wrong_level_leaves_noise_in_the_background(sd15, gaussian, generator):
    source, denoise = drawn(0, 2, 4, 8, 8), gaussian(sd15, MEAN, STD)
    walk = (denoise, source, half(1), drawn(1, 2, 4, 8, 8), sd15.times(10), sd15)
    kept = {
        level: blended_diffusion(*walk, level=level, generator=generator)[..., 4:]
        for level in ("right", "before")
    }
    assert torch.equal(kept["right"], source[..., 4:])
    left = float((kept["before"] - source[..., 4:]).std())
    assert left == pytest.approx(sd15.noise(sd15.times(10)[-2]), rel=0.1)


def test_fixed_noise_is_the_given_one_and_fresh_noise_is_new(exact, gaussian, generator):
    source, noise = torch.zeros(1, 1, 8, 8, dtype=torch.float64), drawn(1, 1, 1, 8, 8)
    walk = (gaussian(exact, MEAN, STD), source, half(1), noise, exact.times(5), exact)
    for noises, new in (("fixed", False), ("fresh", True)):
        for step in list(blended_diffusion_steps(*walk, noises=noises, generator=generator))[:-1]:
            off = (step.x_s / exact.noise(step.s) - noise)[..., 4:].abs().max()
            assert (off > 0.1) == new


# A loss as guidance. A linear loss tilts N(m, s^2) to N(m - slope * s^2, s^2), and the guidance is exact.


@pytest.mark.parametrize("slope", [-3.0, 0.0, 2.0])
def test_a_linear_loss_tilts_gaussian_data_exactly(sd15, gaussian, slope):
    guided = descending(gaussian(sd15, MEAN, STD), lambda x_0: slope * x_0, sd15)
    tilted = gaussian(sd15, MEAN - slope * STD**2, STD)
    x_t = drawn(0, 2, 4, 8, 8)
    for t in (0, 1, 500, 981):
        assert_close(guided(x_t, t), tilted(x_t, t))
        assert not guided(x_t, t).requires_grad


def test_the_loss_steers_the_inside_only(sd15, gaussian, generator):
    source, noise, times = drawn(0, 2, 4, 8, 8), drawn(1, 2, 4, 8, 8), sd15.times(20)
    walk = (source, half(1), noise, times, sd15, 0.75)
    out = blended_diffusion(gaussian(sd15, MEAN, STD), *walk, loss=lambda x_0: 4 * x_0, generator=generator)
    tilted = blended_diffusion(gaussian(sd15, MEAN - 4 * STD**2, STD), *walk, generator=generator)
    assert_close(out, tilted)
    assert torch.equal(out[..., 4:], source[..., 4:])


def test_the_slope_passes_through_the_model(tiny):
    """Against a finite difference along one direction; the frozen weights keep no gradient."""
    denoise, t, step = tiny.denoiser("a red cat", guidance_scale=3), 400, 1e-2
    x_t, direction = tiny.noise(1, torch.Generator().manual_seed(0)), drawn(2, 1, 4, 8, 8).float()

    def loss(x_0):
        return x_0.square().mean() * 100

    def at(x_t):
        return float(loss(ddim_step(tiny.schedule, x_t, denoise(x_t, t), t, CLEAN).x_0))

    shift = (descending(denoise, loss, tiny.schedule)(x_t, t) - denoise(x_t, t)) / tiny.schedule.noise(t)
    slope = (at(x_t + step * direction) - at(x_t - step * direction)) / (2 * step)
    assert float((shift * direction).sum()) == pytest.approx(slope, rel=0.02)
    assert all(weight.grad is None for weight in tiny.unet.parameters())


def test_spherical_distance_is_half_the_squared_angle():
    a = torch.tensor([3.0, 0.0])
    for angle in (0.0, 0.3, pi / 2, 3.0, pi):
        b = torch.tensor([angle]).cos() * torch.tensor([0.5, 0]) + torch.tensor([angle]).sin() * torch.tensor(
            [0, 0.5]
        )
        assert float(spherical_distance(a, b)) == pytest.approx(angle**2 / 2, abs=1e-5)
    for b in (a, -a):  # the slope is finite where the distance has a corner
        start = a.clone().requires_grad_()
        spherical_distance(start, b).backward()
        assert start.grad.isfinite().all()


# Thin masks, and pasting.


def test_a_mask_is_dilated_by_squares():
    mask = torch.zeros(1, 1, 9, 9)
    mask[..., 4, 4] = 1
    for cells in range(5):
        expected = torch.zeros(1, 1, 9, 9)
        expected[..., 4 - cells : 5 + cells, 4 - cells : 5 + cells] = 1
        assert torch.equal(dilate(mask, cells), expected)
    corner = F.pad(torch.ones(1, 1, 1, 1), (0, 8, 0, 8))
    assert dilate(corner, 2).sum() == 9
    assert dilate(mask.bool(), 1).dtype == torch.bool


def test_the_mask_shrinks_in_equal_parts_to_the_mask_itself():
    mask = F.pad(torch.ones(1, 1, 1, 1), (10, 10, 10, 10))
    masks = shrinking(mask, [*range(90, 0, -10), CLEAN], dilations=2)
    assert [int(masks[t].sum()) for t in range(90, 0, -10)] == [25] * 3 + [9] * 3 + [1] * 3
    assert torch.equal(masks[10], mask)
    assert all(torch.equal(m, mask) for m in shrinking(mask, [20, 10, CLEAN], 0).values())


@relaxed
@given(st.integers(1, 20), st.integers(0, 19))
def test_the_last_step_always_has_the_mask_itself(steps, dilations):
    mask = F.pad(torch.ones(1, 1, 1, 1), (3, 3, 3, 3))
    times = [*range(steps, 0, -1), CLEAN]
    if dilations >= steps:
        with pytest.raises(ValueError, match="dilations must be a whole number in"):
            shrinking(mask, times, dilations)
        return
    sizes = [int(m.sum()) for m in shrinking(mask, times, dilations).values()]
    assert len(sizes) == steps and sizes == sorted(sizes, reverse=True) and sizes[-1] == 1


def test_dilation_lets_more_change_at_first_and_keeps_the_source_in_the_end(sd15, gaussian, generator):
    source = torch.full((1, 1, 9, 9), SOURCE, dtype=torch.float64)
    mask = F.pad(torch.ones(1, 1, 1, 1, dtype=torch.float64), (4, 4, 4, 4))
    noise = drawn(1, *source.shape)
    walk = (gaussian(sd15, MEAN, STD), source, mask, noise, sd15.times(6), sd15)
    steps = list(blended_diffusion_steps(*walk, noises="fixed", dilations=2, generator=generator))

    def drawn_cells(step):
        return int((~torch.isclose(step.x_s, sd15.add_noise(source, noise, step.s))).sum())

    assert [drawn_cells(step) for step in steps[:-1]] == [25, 25, 9, 9, 1]
    assert torch.equal(steps[-1].x_s[mask == 0], source[mask == 0])


def test_paste_keeps_the_source_s_pixels_and_softens_inside_the_mask():
    source, edited = torch.zeros(2, 3, 12, 12), torch.ones(2, 3, 12, 12)
    mask = F.pad(torch.ones(1, 1, 8, 8), (2, 2, 2, 2))
    assert torch.equal(paste(edited, source, mask), mask.expand(2, 3, 12, 12))
    soft = paste(edited, source, mask, soften=2)
    assert_close(soft[0, 0, 6], torch.tensor([0, 0, 1, 2, 3, 3, 3, 3, 2, 1, 0, 0]) / 3)
    assert torch.equal(soft[0, 0], soft[1, 2])
    whole = torch.ones(1, 1, 12, 12)  # the picture's own border is no edge to soften
    assert torch.equal(paste(edited, source, whole, soften=3), edited)
    for soften in (-1, 0.5, True):
        with pytest.raises(ValueError, match="soften must be"):
            paste(edited, source, mask, soften=soften)
    with pytest.raises(ValueError, match="must hold 0 and 1 only"):
        paste(edited, source, mask / 2)


# The peer.


@pytest.mark.parametrize(
    ("strength", "steps", "guidance_scale"), [(1.0, 5, 7.5), (1.0, 3, 1.0), (0.6, 10, 7.5), (0.58, 50, 1.0)]
)
def test_parity_with_inpainting(tiny, strength, steps, guidance_scale):
    draws = torch.Generator().manual_seed(4)
    images = torch.rand(2, 3, 16, 16, generator=draws) * 2 - 1
    masks = (torch.rand(2, 1, 16, 16, generator=draws) > 0.5).float()
    assert inpaint_difference(tiny, images, masks, "a red cat", strength, steps, guidance_scale) <= 1e-4


def test_the_peer_and_the_paper_differ_at_strength_one(sd15, gaussian):
    source, noise = drawn(0, 1, 4, 8, 8) + 5, drawn(1, 1, 4, 8, 8)
    walk = (gaussian(sd15, MEAN, STD), source, half(1), noise, sd15.times(10), sd15)
    first = {c: next(blended_diffusion_steps(*walk, compat=c)).x_t for c in (None, "diffusers")}
    assert torch.equal(first["diffusers"], noise)
    assert torch.equal(first[None], sd15.add_noise(source, noise, sd15.times(10)[0]))


# Bad input: refused at the door, before the model is asked.


def refuse(match, source=None, mask=None, noise=None, **options):
    schedule = Schedule.from_config({"steps_offset": 1})
    source = torch.zeros(2, 4, 8, 8) if source is None else source
    mask = half(1) if mask is None else mask
    noise = torch.zeros_like(source) if noise is None else noise

    def asked(x_t, t):
        raise AssertionError("the model was asked")

    with pytest.raises(ValueError, match=match):
        blended_diffusion_steps(asked, source, mask, noise, schedule.times(10), schedule, **options)


@relaxed
@given(st.floats(allow_nan=True, allow_infinity=True).filter(lambda x: not 0 < x <= 1))
def test_strength_outside_its_range_is_refused(strength):
    refuse(r"strength must be in \(0, 1\]", strength=strength)


@relaxed
@given(st.floats(1e-9, 1e-3))
def test_a_strength_that_leaves_no_step_is_refused(strength):
    refuse("leaves none of 10 steps", strength=strength)


@relaxed
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(
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
@given(st.one_of(st.integers(max_value=-1), st.integers(10, 10**9), st.floats(0, 9), st.booleans()))
def test_dilations_beyond_the_steps_are_refused(dilations):
    refuse("dilations must be a whole number in 0..9", dilations=dilations)


def test_other_bad_input_is_refused():
    refuse("the mask is empty", mask=torch.zeros(1, 1, 8, 8))
    refuse("must have one shape", noise=torch.zeros(1, 4, 8, 8))
    refuse("level must be one of", level="left")
    refuse("noises must be one of", noises="none")
    refuse("compat must be one of", compat="official")
    refuse("eta must be in", eta=2.0)
