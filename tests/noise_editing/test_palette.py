"""Palette: exact where the data are known, equal to diffusers' ancestral sampler, blind outside a mask."""

from itertools import pairwise

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch.testing import assert_close

from course.core.sampling import ddim_step
from course.core.schedule import CLEAN, Schedule
from course.noise_editing.palette import (
    SAMPLING,
    TRAINING,
    draw_gamma,
    palette,
    palette_loss,
    palette_steps,
)

MEAN, STD, LATENT = 0.3, 0.5, (1, 4, 32, 32)


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trailing(**config):
    return Schedule.from_config({"timestep_spacing": "trailing", **config})


def gaussian(x, y_t, gamma):
    """The exact eps where y is drawn from N(x + MEAN, STD^2), pixel by pixel."""
    level = gamma.view(-1, 1, 1, 1)
    return (1 - level).sqrt() * (y_t - level.sqrt() * (x + MEAN)) / (level * STD**2 + 1 - level)


def known(x, y_t, gamma):
    """The exact eps where y is x."""
    level = gamma.view(-1, 1, 1, 1)
    return (y_t - level.sqrt() * x) / (1 - level).sqrt()


def half(rows=1, size=8):
    mask = torch.zeros(rows, 1, size, size, dtype=torch.float64)
    mask[..., : size // 2] = 1
    return mask


# Exact answers


def test_samples_have_the_law_of_the_pictures_that_x_may_be_left_of(generator):
    x = drawn(0, 1, 1, 200, 200)
    schedule = trailing(**SAMPLING)
    out = palette(
        gaussian, x, drawn(1, *x.shape), schedule.times(1000), schedule, limit=None, generator=generator
    )
    error = out - x
    assert float(error.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(error.std()) == pytest.approx(STD, abs=0.01)
    assert abs(float((error * x).mean())) < 0.01


@pytest.mark.parametrize("steps", [1, 7])
def test_a_picture_that_x_tells_whole_comes_back(generator, steps):
    x, schedule = drawn(0, 2, 3, 8, 8).clamp(-1, 1), trailing(**TRAINING)
    out = palette(known, x, drawn(1, *x.shape), schedule.times(steps), schedule, generator=generator)
    assert_close(out, x)


@pytest.mark.parametrize("target", ["eps", "v"])
@pytest.mark.parametrize("p", [1, 2])
def test_the_loss_of_the_exact_answer_is_nothing(p, target):
    y, gamma = drawn(0, 4, 3, 8, 8), torch.tensor([0.01, 0.3, 0.7, 0.99], dtype=torch.float64)
    assert float(palette_loss(known, y, y, gamma, drawn(1, *y.shape), p=p, target=target)) < 1e-12


def test_the_loss_of_an_answer_of_0_is_the_noises_moment():
    y, gamma = drawn(0, 64, 3, 16, 16), torch.full((64,), 0.25, dtype=torch.float64)

    def loss(**options):
        return float(palette_loss(lambda x, y_t, g: 0 * y_t, y, y, gamma, drawn(1, *y.shape), **options))

    assert loss() == pytest.approx(1, abs=0.02)
    assert loss(p=1) == pytest.approx((2 / torch.pi) ** 0.5, abs=0.01)
    assert loss(target="v") == pytest.approx(4, abs=0.08)  # over gamma
    assert loss(p=1, target="v") == pytest.approx(2 * (2 / torch.pi) ** 0.5, abs=0.02)


def test_the_loss_of_v_is_the_error_of_v():
    y, eps, gamma = drawn(0, 2, 3, 8, 8), drawn(1, 2, 3, 8, 8), torch.tensor([0.2, 0.9], dtype=torch.float64)
    level = gamma.view(-1, 1, 1, 1)
    answer = drawn(2, *y.shape)
    v = level.sqrt() * eps - (1 - level).sqrt() * y
    loss = palette_loss(
        lambda x, y_t, g: level.sqrt() * answer + (1 - level).sqrt() * y_t, y, y, gamma, eps, target="v"
    )
    assert_close(loss, (answer - v).square().mean())


# Peers


class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer = torch.nn.Conv2d(7, 3, 3, padding=1).double()

    def forward(self, x, y_t, gamma):
        level = gamma.view(-1, 1, 1, 1).expand_as(y_t[:, :1])
        return self.layer(torch.cat([x, y_t, level], 1))


@pytest.mark.parametrize("clip", [True, False])
def test_it_is_diffusers_ancestral_sampler(clip):
    """DDPMScheduler with the posterior's variance, step for step, on the same noises."""
    peer = DDPMScheduler(
        num_train_timesteps=20, beta_start=1e-3, beta_end=0.2, variance_type="fixed_small", clip_sample=clip
    )
    schedule = Schedule.from_config(dict(peer.config) | {"timestep_spacing": "trailing"})
    model, x = Tiny().requires_grad_(False), drawn(0, 2, 3, 8, 8)
    start = drawn(1, *x.shape)
    ours = palette(
        model,
        x,
        start,
        schedule.times(20),
        schedule,
        limit=1.0 if clip else None,
        generator=torch.Generator().manual_seed(3),
    )
    y, noises = start, torch.Generator().manual_seed(3)
    for t in range(19, -1, -1):
        gamma = peer.alphas_cumprod[t].double().expand(2)
        y = peer.step(model(x, y, gamma), t, y, generator=noises).prev_sample
    assert_close(ours, y, rtol=0, atol=1e-4)


# Masks


def test_outside_the_mask_all_is_known_at_every_step(generator):
    x, y, mask, schedule = drawn(0, 2, 3, 8, 8), drawn(1, 2, 3, 8, 8), half(), trailing()
    seen = []

    def predict(x, y_t, gamma):
        seen.append(y_t)
        return gaussian(x, y_t, gamma)

    steps = list(
        palette_steps(
            predict, x, drawn(2, *x.shape), schedule.times(5), schedule, mask, y, generator=generator
        )
    )
    assert len(seen) == 5
    for asked in [*seen, steps[-1].x_s]:
        assert torch.equal(asked[..., 4:], y[..., 4:]) and not torch.equal(asked[..., :4], y[..., :4])


def test_the_loss_looks_at_the_mask_alone():
    model, mask = Tiny(), half(2)
    x, y, eps = (drawn(i, 2, 3, 8, 8) for i in range(3))
    gamma = torch.tensor([0.3, 0.6], dtype=torch.float64)
    answers = []

    def predict(x, y_t, gamma):
        answers.append(model(x, y_t, gamma))
        answers[-1].retain_grad()
        assert torch.equal(y_t[..., 4:], y[..., 4:])
        return answers[-1]

    palette_loss(predict, x, y, gamma, eps, mask).backward()
    found = answers[0].grad
    assert found is not None
    assert found[..., 4:].abs().max() == 0 and (found[..., :4] != 0).all()


def test_the_loss_of_a_part_is_its_mean_there():
    y, eps = drawn(0, 2, 3, 8, 8), drawn(1, 2, 3, 8, 8)
    gamma = torch.full((2,), 0.5, dtype=torch.float64)
    loss = palette_loss(lambda x, y_t, g: eps + 2, y, y, gamma, eps, half(2))
    assert float(loss) == pytest.approx(4)


# Levels


def test_gamma_lies_between_a_time_and_the_one_before(generator):
    schedule = Schedule.from_config({"beta_schedule": "linear", "num_train_timesteps": 4, "beta_end": 0.5})
    gamma = draw_gamma(schedule, 20_000, generator)
    edges = torch.cat([torch.ones(1, dtype=torch.float64), schedule.alpha_bar.double()])
    inside = [((gamma <= a) & (gamma >= b)).double().mean() for a, b in pairwise(edges)]
    assert_close(torch.stack(inside), torch.full((4,), 0.25).double(), atol=0.02, rtol=0)
    for a, b in pairwise(edges):
        part = gamma[(gamma <= a) & (gamma >= b)]
        assert float(part.mean()) == pytest.approx(float(a + b) / 2, abs=0.05 * float(a - b))


def test_the_papers_schedules():
    for config, last in ((TRAINING, 4.5e-5), (SAMPLING, 2.0e-20)):
        levels = Schedule.from_config(config).alpha_bar
        assert float(levels[-1]) == pytest.approx(last, rel=0.2)
    assert Schedule.from_config(TRAINING).times(2000)[-1] == CLEAN


def test_it_may_be_sampled_at_levels_that_it_was_not_trained_at(generator):
    """The exact denoiser knows every level: two schedules give the same law."""
    x = drawn(0, 1, 1, 100, 100)
    for config in (TRAINING, SAMPLING):
        schedule = trailing(**config)
        out = palette(
            gaussian, x, drawn(1, *x.shape), schedule.times(500), schedule, limit=None, generator=generator
        )
        assert float((out - x).std()) == pytest.approx(STD, abs=0.03)


def test_the_limit_holds(generator):
    x, schedule = 10 * drawn(0, 1, 3, 8, 8), trailing()
    steps = list(
        palette_steps(known, x, drawn(1, *x.shape), schedule.times(4), schedule, generator=generator)
    )
    assert all(step.x_0.abs().max() <= 1 + 1e-9 for step in steps)
    assert_close(steps[-1].x_s, x.clamp(-1, 1))


# Latents


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_inpainting_network_of_stable_diffusions_shape_is_palette_in_latents(dtype, sd15):
    """Nine channels, as the lesson asks it: told a time, which is found again from the level."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=32,
            in_channels=9,
            block_out_channels=(8, 16, 16, 16),
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=4,
        ).to(dtype)
    text, left, start = (drawn(i, *shape).to(dtype) for i, shape in enumerate([(1, 7, 16), LATENT, LATENT]))
    mask, times, seen = half(size=32).to(dtype), sd15.times(4), []

    def predict(x, y_t, gamma):
        seen.append(int((sd15.alpha_bar - gamma[0]).abs().argmin()))
        rows = torch.cat([y_t, mask, x], 1)
        return unet(rows, seen[-1], encoder_hidden_states=text).sample

    with torch.no_grad():
        out = palette(predict, left, start, times, sd15, eta=0, limit=None)
        plain = start
        for t, s in pairwise(times):
            eps = unet(torch.cat([plain, mask, left], 1), t, encoder_hidden_states=text).sample
            plain = ddim_step(sd15, plain, eps, t, s).x_s
    assert seen == times[:-1], "every level must lead back to its time, in half precision too"
    assert out.dtype == dtype and torch.equal(out, plain)


# Bad input


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mask": half()}, "belong together"),
        ({"known": drawn(0, 1, 3, 8, 8)}, "belong together"),
        ({"mask": half(size=4), "known": drawn(0, 1, 3, 8, 8)}, "the mask must be"),
        ({"mask": 0.5 * half(), "known": drawn(0, 1, 3, 8, 8)}, "0 and 1 only"),
        ({"mask": half(), "known": drawn(0, 1, 4, 8, 8)}, "one shape"),
        ({"noise": drawn(0, 1, 3, 4, 4)}, "one shape"),
        ({"limit": 0.0}, "limit must be above 0"),
        ({"eta": 2.0}, "eta must be in"),
    ],
)
def test_what_cannot_be_sampled_is_refused(change, said):
    given = {"x": drawn(0, 1, 3, 8, 8), "noise": drawn(1, 1, 3, 8, 8), **change}
    schedule = trailing()
    with pytest.raises(ValueError, match=said):
        palette(known, times=schedule.times(3), schedule=schedule, **given)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gamma": torch.tensor([0.0])}, r"in \(0, 1\)"),
        ({"gamma": torch.tensor([1.5])}, r"in \(0, 1\)"),
        ({"gamma": torch.tensor([0.5, 0.5])}, "must be 1 levels"),
        ({"eps": drawn(0, 1, 3, 4, 4)}, "one shape"),
        ({"p": 3}, "p must be one of"),
        ({"target": "x"}, "target must be one of"),
        ({"mask": half(size=4)}, "the mask must be"),
    ],
)
def test_what_cannot_be_a_loss_is_refused(change, said):
    y = drawn(0, 1, 3, 8, 8)
    given = {"x": y, "y": y, "gamma": torch.tensor([0.5]), "eps": drawn(1, 1, 3, 8, 8), **change}
    with pytest.raises(ValueError, match=said):
        palette_loss(known, **given)
