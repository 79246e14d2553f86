from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler
from hypothesis import example, given, settings
from hypothesis import strategies as st

from course.core.sampling import blend, ddim_step, invert, keep_outside, last, noise_like, sample
from course.core.schedule import CLEAN, Schedule
from tests.core.tiny import SD15

SHAPE = (2, 4, 8, 8)


def noise(seed, *shape):
    return torch.randn(shape or SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Exact answers: Gaussian data.


def test_sampling_follows_the_exact_map(sd15, gaussian):
    mean, std, x_T, times = 2.0, 0.5, noise(0), sd15.times(999)
    out = last(sample(gaussian(sd15, mean, std), x_T, times, sd15))

    def moments(t):
        a, n = sd15.signal(t), sd15.noise(t)
        return a * mean, (a * a * std * std + n * n) ** 0.5

    (mean_T, std_T), (mean_0, std_0) = moments(times[0]), moments(CLEAN)
    torch.testing.assert_close(out, mean_0 + std_0 * (x_T - mean_T) / std_T, rtol=0, atol=0.02)


def test_samples_have_the_data_s_mean_and_spread(sd15, gaussian, generator):
    x_T = torch.randn(10_000, generator=generator)
    for eta in (0.0, 1.0):
        out = last(sample(gaussian(sd15, 2.0, 0.5), x_T, sd15.times(500), sd15, eta=eta, generator=generator))
        # A standard normal start lacks the signal left at T-1 (0.068), and eta = 0 carries the lack on.
        assert out.mean().item() == pytest.approx(2.0 if eta else 1.93, abs=0.03)
        assert out.std().item() == pytest.approx(0.5, abs=0.02)


def round_trip_error(schedule, gaussian, steps, evaluate):
    denoise, times = gaussian(schedule, 2.0, 0.5), schedule.times(steps)
    x = 2 + 0.5 * noise(0)
    return (
        (last(sample(denoise, last(invert(denoise, x, times, schedule, evaluate)), times, schedule)) - x)
        .abs()
        .max()
    )


@pytest.mark.parametrize("evaluate", ["source", "target"])
def test_twice_the_steps_halve_the_round_trip_s_error(sd15, gaussian, evaluate):
    errors = [round_trip_error(sd15, gaussian, steps, evaluate) for steps in (50, 100, 200)]
    for more, less in pairwise(errors):
        assert 1.6 < more / less < 2.5


@settings(max_examples=25)
@given(st.integers(1, 60), st.sampled_from(["target", "source"]), st.booleans(), st.integers(0, 9))
def test_inversion_undoes_sampling_where_eps_is_constant(steps, evaluate, to_one, seed):
    schedule = Schedule.from_config(SD15 | {"set_alpha_to_one": to_one})
    x, eps, times = noise(seed), noise(seed + 10), schedule.times(steps)
    up = last(invert(lambda x, t: eps, x, times, schedule, evaluate))
    torch.testing.assert_close(last(sample(lambda x, t: eps, up, times, schedule)), x, rtol=0, atol=1e-9)


@given(st.integers(CLEAN, 999), st.integers(CLEAN, 999), st.integers(CLEAN, 999))
def test_steps_with_one_eps_compose(t, middle, s):
    schedule, x, eps = Schedule.from_config(SD15), noise(0), noise(1)
    detour = ddim_step(schedule, ddim_step(schedule, x, eps, t, middle).x_s, eps, middle, s)
    direct = ddim_step(schedule, x, eps, t, s)
    torch.testing.assert_close(detour.x_s, direct.x_s, rtol=0, atol=1e-9)
    torch.testing.assert_close(detour.x_0, direct.x_0, rtol=0, atol=1e-9)


# Agreement with diffusers.


@settings(max_examples=60)
@given(
    st.integers(1, 999),
    st.integers(0, 998),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from(["leading", "trailing", "linspace"]),
    st.sampled_from(["epsilon", "v_prediction"]),
    st.booleans(),
)
@example(10, 9, 1.0, "linspace", "epsilon", False)  # from time 0 to a CLEAN of the same level
def test_one_step_is_that_of_diffusers(steps, index, eta, spacing, prediction, to_one):
    config = SD15 | {"timestep_spacing": spacing, "prediction_type": prediction, "set_alpha_to_one": to_one}
    schedule, peer = Schedule.from_config(config), DDIMScheduler(**config)
    peer.set_timesteps(steps)
    t = schedule.times(steps)[index % steps]
    x, output, z = (noise(seed).float() for seed in range(3))
    theirs = peer.step(output, t, x, eta=eta, variance_noise=z if eta else None)
    # diffusers goes to t - T // steps, which is the next time only where the spacing is even.
    s = max(t - 1000 // steps, CLEAN)
    ours = ddim_step(schedule, x, schedule.to_eps(output, x, t), t, s, eta, z if eta else None)
    torch.testing.assert_close(ours.x_s, theirs.prev_sample, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.x_0, theirs.pred_original_sample, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_whole_walk_is_that_of_diffusers(sd15, gaussian, eta):
    denoise, x = gaussian(sd15, 0.3, 0.5), noise(0).float()
    ours = last(sample(denoise, x, sd15.times(50), sd15, eta=eta, generator=torch.Generator().manual_seed(7)))
    peer, generator = DDIMScheduler(**SD15), torch.Generator().manual_seed(7)
    peer.set_timesteps(50)
    for t in peer.timesteps.tolist():
        x = peer.step(denoise(x, t), t, x, eta=eta, generator=generator).prev_sample
    torch.testing.assert_close(ours, x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("to_one", [True, False])
@pytest.mark.parametrize(("spacing", "steps"), [("leading", 50), ("leading", 30), ("trailing", 50)])
def test_inversion_at_the_target_is_that_of_diffusers(gaussian, spacing, steps, to_one):
    config = SD15 | {"timestep_spacing": spacing, "set_alpha_to_one": to_one}
    schedule, peer = (
        Schedule.from_config(config),
        DDIMInverseScheduler.from_config(DDIMScheduler(**config).config),
    )
    denoise, times = gaussian(schedule, 0.3, 0.5), schedule.times(steps)
    x = x_0 = noise(0).float()
    peer.set_timesteps(steps)
    assert peer.timesteps.tolist() == times[-2::-1]
    for t in peer.timesteps.tolist():
        x = peer.step(denoise(x, t), t, x).prev_sample
    torch.testing.assert_close(last(invert(denoise, x_0, times, schedule, "target")), x, rtol=0, atol=1e-5)
    other = last(invert(denoise, x_0, times, schedule, "source"))
    assert not torch.allclose(other, x, atol=1e-2)


def test_diffusers_reads_an_inverting_v_at_the_level_it_comes_from(gaussian):
    config = SD15 | {"prediction_type": "v_prediction"}
    schedule, peer = (
        Schedule.from_config(config),
        DDIMInverseScheduler.from_config(DDIMScheduler(**config).config),
    )
    network = gaussian(schedule, 0.3, 0.5)  # any function will do
    x = noise(0).float()
    peer.set_timesteps(50)
    theirs = peer.step(network(x, 21), 21, x).prev_sample
    at_source, at_target = (
        ddim_step(schedule, x, schedule.to_eps(network(x, 21), x, level), 1, 21).x_s for level in (1, 21)
    )
    torch.testing.assert_close(at_source, theirs, rtol=0, atol=1e-5)
    assert not torch.allclose(at_target, theirs, atol=1e-4)


# What a walk is.


def test_the_network_is_asked_where_the_convention_says(sd15):
    asked = []

    def denoise(x, t):
        asked.append(t)
        return torch.zeros_like(x)

    times = sd15.times(3)  # 667, 334, 1, CLEAN
    for walk in (sample, partial(invert, evaluate="target"), partial(invert, evaluate="source")):
        last(walk(denoise, noise(0), times, sd15))
    assert asked == [667, 334, 1, *(1, 334, 667), *(0, 1, 334)]


def test_a_walk_is_watched_step_by_step_and_stops_when_its_reader_does(sd15, gaussian):
    calls = []

    def denoise(x, t):
        calls.append(t)
        return gaussian(sd15, 0.0, 1.0)(x, t)

    walk, times = sample(denoise, noise(0), sd15.times(10), sd15), sd15.times(10)
    first, second = next(walk), next(walk)
    assert [(step.t, step.s) for step in (first, second)] == list(pairwise(times))[:2]
    assert second.x_t is first.x_s
    assert calls == times[:2]


def test_intervening_replaces_what_comes_next_and_nothing_else(sd15, gaussian):
    denoise, x, times = gaussian(sd15, 0.5, 0.5), noise(0), sd15.times(10)
    plain = list(sample(denoise, x, times, sd15))
    same = list(sample(denoise, x, times, sd15, intervene=lambda step: step.x_s))
    assert all(torch.equal(a.x_s, b.x_s) for a, b in zip(plain, same, strict=True))
    doubled = list(sample(denoise, x, times, sd15, intervene=lambda step: 2 * step.x_s))
    assert torch.equal(doubled[0].x_s, 2 * plain[0].x_s)
    assert torch.equal(doubled[1].x_t, doubled[0].x_s)
    assert torch.equal(doubled[0].x_0, plain[0].x_0)


def test_part_of_the_way_and_back(sd15, gaussian):
    denoise, x, times = gaussian(sd15, 0.0, 0.5), 0.5 * noise(0), sd15.times(200)[100:]
    steps = list(invert(denoise, x, times, sd15))
    assert (steps[0].t, steps[-1].s) == (CLEAN, times[0])
    torch.testing.assert_close(last(sample(denoise, steps[-1].x_s, times, sd15)), x, rtol=0, atol=0.02)


def test_the_generator_decides_the_noise(sd15, gaussian):
    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return last(
            sample(gaussian(sd15, 0.0, 1.0), noise(0), sd15.times(5), sd15, eta=1.0, generator=generator)
        )

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_noise_has_the_latents_shape_and_type():
    x = torch.zeros(3, 2, dtype=torch.float16)
    found = noise_like(x, torch.Generator().manual_seed(3))
    assert (found.shape, found.dtype) == (x.shape, x.dtype)


@pytest.mark.parametrize("times", [[], [5], [1, 2], [5, 5], [CLEAN, 1]])
@pytest.mark.parametrize("walk", [sample, invert])
def test_times_that_do_not_fall_are_refused_at_the_call(sd15, walk, times):
    with pytest.raises(ValueError, match="fall"):
        walk(lambda x, t: x, noise(0), times, sd15)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_eta_outside_its_range_is_refused(sd15, eta):
    with pytest.raises(ValueError, match="eta must be in"):
        sample(lambda x, t: x, noise(0), sd15.times(2), sd15, eta=eta)
    with pytest.raises(ValueError, match="eta must be in"):
        ddim_step(sd15, noise(0), noise(1), 10, 5, eta, noise(2))


def test_random_steps_need_noise_and_go_down(sd15):
    with pytest.raises(ValueError, match="needs noise"):
        ddim_step(sd15, noise(0), noise(1), 10, 5, 1.0)
    with pytest.raises(ValueError, match="s < t"):
        ddim_step(sd15, noise(0), noise(1), 5, 10, 1.0, noise(2))


def test_an_unknown_convention_is_refused(sd15):
    with pytest.raises(ValueError, match='"target" or "source"'):
        invert(lambda x, t: x, noise(0), sd15.times(2), sd15, "middle")


def test_a_walk_without_steps_has_no_last(sd15):
    with pytest.raises(ValueError, match="no step"):
        last(iter([]))


# Masks.


def test_outside_the_mask_the_known_latents_stand_at_the_level_just_reached(sd15, gaussian):
    times, mask = sd15.times(10), torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    known = {s: torch.full((1, 4, 8, 8), float(s), dtype=torch.float64) for s in times[1:]}
    for given_as in (known, known.__getitem__):
        for step in sample(
            gaussian(sd15, 0.0, 1.0), noise(0), times, sd15, intervene=keep_outside(mask, given_as)
        ):
            assert (step.x_s[..., 4:] == step.s).all()
            assert not (step.x_s[..., :4] == step.s).any()


def test_a_time_without_known_latents_is_refused(sd15):
    walk = sample(
        lambda x, t: x, noise(0), [5, 3], sd15, intervene=keep_outside(torch.ones(1, 1, 8, 8), {5: noise(0)})
    )
    with pytest.raises(ValueError, match="no known latents at time 3"):
        last(walk)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float16, torch.float64])
def test_blending_takes_each_side_exactly_and_keeps_the_latents_type(dtype, generator):
    edited, known = noise(0).float(), noise(1).float()
    mask = torch.rand(2, 1, 8, 8, generator=generator) > 0.5
    out = blend(edited, known, mask.to(dtype))
    assert torch.equal(out, torch.where(mask, edited, known))


@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (1, 4, 8, 8), (8, 8), (3, 1, 8, 8), (1, 1, 1, 1)])
def test_a_mask_of_another_size_is_refused(shape):
    with pytest.raises(ValueError, match="shrink_mask"):
        blend(noise(0), noise(1), torch.ones(shape))


def test_a_step_can_be_replaced_but_not_changed(sd15):
    step = ddim_step(sd15, noise(0), noise(1), 10, 5)
    assert replace(step, x_s=step.x_t).x_s is step.x_t
    with pytest.raises(AttributeError):
        step.x_s = step.x_t
