from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from course.core.schedule import CLEAN, SPACINGS, Schedule
from tests.core.tiny import SD15

CONFIGS = st.fixed_dictionaries(
    {
        "num_train_timesteps": st.integers(2, 1000),
        "beta_schedule": st.sampled_from(["linear", "scaled_linear", "squaredcos_cap_v2"]),
        "beta_start": st.floats(1e-5, 1e-3),
        "beta_end": st.floats(2e-3, 2e-2),
        "timestep_spacing": st.sampled_from(SPACINGS),
        "steps_offset": st.integers(0, 1),
        "set_alpha_to_one": st.booleans(),
    }
)


@settings(max_examples=30)
@given(CONFIGS)
def test_levels_are_those_of_diffusers(config):
    ours, theirs = Schedule.from_config(config), DDIMScheduler(**config)
    torch.testing.assert_close(ours.alpha_bar.float(), theirs.alphas_cumprod, rtol=0, atol=1e-6)
    assert ours.final_alpha_bar == pytest.approx(float(theirs.final_alpha_cumprod), abs=1e-6)
    assert ours.signal(CLEAN) ** 2 == pytest.approx(ours.final_alpha_bar)


@settings(max_examples=100)
@given(CONFIGS, st.integers(1, 1000))
def test_times_are_those_of_diffusers(config, steps):
    ours, theirs = Schedule.from_config(config), DDIMScheduler(**config)
    T = config["num_train_timesteps"]
    if steps > T:
        with pytest.raises(ValueError, match=rf"1\.\.{T}"):
            ours.times(steps)
        return
    theirs.set_timesteps(steps)
    expected = [t for t in theirs.timesteps.tolist() if t >= 0]  # rounding adds a -1 to some trailing lists
    if expected[0] >= T:  # diffusers fails at this time, with an IndexError, when it steps
        with pytest.raises(ValueError, match="take fewer steps"):
            ours.times(steps)
    else:
        assert ours.times(steps) == [*expected, CLEAN]


@pytest.mark.parametrize("spacing", SPACINGS)
def test_every_step_count_falls_from_a_time_of_the_schedule_to_clean(sd15, spacing):
    schedule = replace(sd15, spacing=spacing)
    for steps in range(1, 1000, 7):
        times = schedule.times(steps)
        assert len(times) == steps + 1 and times[0] < 1000 and times[-1] == CLEAN
        assert all(t > s for t, s in pairwise(times))
        assert all(type(t) is int for t in times)


def test_stable_diffusion_walks_981_to_1(sd15):
    assert sd15.times(50)[:2] == [981, 961]
    assert sd15.times(50)[-2:] == [1, CLEAN]
    assert sd15.signal(999) == pytest.approx(0.0683, abs=1e-4)
    assert sd15.noise(CLEAN) == pytest.approx(0.0292, abs=1e-4)


@pytest.mark.parametrize("to_one", [True, False])
def test_the_clean_level_is_exact(to_one):
    schedule = Schedule.from_config(SD15 | {"set_alpha_to_one": to_one})
    same = (1.0, 0.0) if to_one else (schedule.signal(0), schedule.noise(0))
    assert (schedule.signal(CLEAN), schedule.noise(CLEAN)) == same


def test_another_scheduler_class_is_read_through_ddim():
    pndm = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        set_alpha_to_one=False,
    )
    schedule = Schedule.from_config(DDIMScheduler.from_config(pndm.config).config)
    assert (schedule.steps_offset, schedule.final_alpha_bar) == (1, schedule.alpha_bar[0].item())


def test_trained_betas_are_taken_as_they_are():
    assert Schedule.from_config({"trained_betas": [0.5, 0.5]}).alpha_bar.tolist() == [0.5, 0.25]


@pytest.mark.parametrize("steps", [0, -1, 1001, 2.0, True, None])
def test_bad_step_counts_are_refused(sd15, steps):
    with pytest.raises(ValueError, match=r"steps must be a whole number in 1\.\.1000"):
        sd15.times(steps)


@pytest.mark.parametrize("t", [-2, 1000])
def test_times_outside_the_schedule_are_refused(sd15, t):
    with pytest.raises(ValueError, match=r"0\.\.999, or CLEAN"):
        sd15.signal(t)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"timestep_spacing": "karras"}, "spacing"),
        ({"prediction_type": "sample"}, "prediction_type"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
        ({"steps_offset": 1000}, "steps_offset"),
        ({"steps_offset": -1}, "steps_offset"),
        ({"trained_betas": [0.1, 1.0]}, "alpha_bar"),
        ({"trained_betas": []}, "alpha_bar"),
        ({"trained_betas": [0.1, -0.1]}, "alpha_bar"),
        ({"trained_betas": [0.1, float("nan")]}, "alpha_bar"),
    ],
)
def test_bad_configs_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        Schedule.from_config(config)


@given(st.integers(CLEAN, 999))
def test_signal_and_noise_are_a_point_of_the_circle(t):
    schedule = Schedule.from_config({"set_alpha_to_one": t % 2 == 0})
    assert schedule.signal(t) ** 2 + schedule.noise(t) ** 2 == pytest.approx(1)


def test_noise_is_added_as_diffusers_adds_it(sd15, generator):
    x_0, eps = torch.randn(2, 3, 2, 4, 4, generator=generator).unbind(1)[:2]
    t = torch.tensor([3, 700])
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    expected = scheduler.add_noise(x_0, eps, t)
    torch.testing.assert_close(sd15.add_noise(x_0, eps, t), expected, rtol=0, atol=1e-5)
    for row, time in enumerate(t.tolist()):
        torch.testing.assert_close(sd15.add_noise(x_0[row], eps[row], time), expected[row], rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_latents_type_is_kept(sd15, dtype):
    schedule, x = replace(sd15, prediction_type="v_prediction"), torch.ones(2, 1, 2, 2, dtype=dtype)
    for t in (5, CLEAN, torch.tensor([5, CLEAN])):
        assert schedule.add_noise(x, x, t).dtype == schedule.to_eps(x, x, t).dtype == dtype


@given(st.integers(0, 999))
def test_v_prediction_gives_the_noise_back(t):
    schedule = Schedule.from_config({"prediction_type": "v_prediction"})
    x_0, eps = torch.randn(2, 1, 1, 4, 4, generator=torch.Generator().manual_seed(t), dtype=torch.float64)
    x_t, v = schedule.add_noise(x_0, eps, t), schedule.signal(t) * eps - schedule.noise(t) * x_0
    torch.testing.assert_close(schedule.to_eps(v, x_t, t), eps)
    torch.testing.assert_close(schedule.to_eps(v, x_t, torch.tensor([t])), eps)
    assert replace(schedule, prediction_type="epsilon").to_eps(v, x_t, t) is v
