"""The exact denoisers against answers found another way: by integration, by differentiation, by trial."""

import pytest
import torch
from torch.distributions import Normal

from course.core.exact import draw, gaussian, mixture, responsibilities
from course.core.guidance import classifier_free
from course.core.sampling import last, sample
from course.core.schedule import CLEAN

CENTRES = torch.tensor([[-1.5, 0.5], [1.0, 0.0], [0.5, 2.0]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
TIMES = (0, 100, 500, 999)


def log_density(schedule, x, t, variance):
    """log p_t(x) of the mixture, from torch's own Gaussians."""
    signal, noise = schedule.signal(t), schedule.noise(t)
    part = Normal(signal * CENTRES, (signal**2 * variance + noise**2) ** 0.5)
    return (part.log_prob(x[:, None]).sum(-1) + WEIGHTS.log()).logsumexp(1)


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("variance", [0.0, 0.04, 1.0])
def test_eps_is_the_slope_of_the_density(sd15, t, variance):
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(t), dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(log_density(sd15, x, t, variance).sum(), x)
    eps = mixture(sd15, CENTRES, variance, WEIGHTS)(x, t)
    torch.testing.assert_close(eps, -sd15.noise(t) * slope, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("t", TIMES)
def test_the_guess_is_the_posterior_mean(sd15, t):
    x_0 = torch.linspace(-8, 8, 40_001, dtype=torch.float64)
    x_t = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    prior = 0.5 * Normal(-1.0, 0.3).log_prob(x_0).exp() + 0.5 * Normal(2.0, 0.3).log_prob(x_0).exp()
    seen = Normal(sd15.signal(t) * x_0, sd15.noise(t)).log_prob(x_t).exp()
    mean = (prior * seen * x_0).sum(1) / (prior * seen).sum(1)
    eps = mixture(sd15, torch.tensor([[-1.0], [2.0]], dtype=torch.float64), 0.09)(x_t, t)
    guess = (x_t - sd15.noise(t) * eps) / sd15.signal(t)
    torch.testing.assert_close(guess[:, 0], mean, rtol=1e-6, atol=1e-6)


def test_a_mixture_of_one_is_a_gaussian(sd15):
    x = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t in TIMES:
        one = mixture(sd15, torch.full((1, 3, 4, 4), 0.7, dtype=torch.float64), 0.25)(x, t)
        torch.testing.assert_close(one, gaussian(sd15, 0.7, 0.25)(x, t))


@pytest.mark.parametrize("t", [100, 700])
def test_nothing_predicts_the_noise_better(sd15, generator, t):
    x_0 = draw(CENTRES, 0.04, 20_000, generator)
    eps = torch.randn(x_0.shape, generator=generator, dtype=x_0.dtype)
    x_t = sd15.add_noise(x_0, eps, t)

    def error(guess):
        return (guess - eps).square().mean().item()

    exact = mixture(sd15, CENTRES, 0.04)(x_t, t)
    others = [
        exact * 1.05,
        exact * 0.95,
        exact + 0.1,
        mixture(sd15, CENTRES, 0.09)(x_t, t),
        gaussian(sd15, 0.0, 1.0)(x_t, t),
    ]
    assert all(error(exact) < error(other) for other in others)


def test_sampling_gives_back_the_data(sd15, generator):
    points = torch.randn(20, 3, 8, 8, generator=generator)
    out = last(
        sample(mixture(sd15, points), torch.randn(6, 3, 8, 8, generator=generator), sd15.times(50), sd15)
    )
    nearest = torch.cdist(out.flatten(1), points.flatten(1)).min(1)
    assert nearest.values.max() < 0.03 * 192**0.5 * 2  # sd15's last level keeps a noise of 0.03
    assert len(set(nearest.indices.tolist())) > 1


def test_a_small_difference_between_large_pictures_decides(sd15):
    base = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    other = base.clone()
    other[0, :, :4, :4] += 0.5
    share = responsibilities(sd15, torch.cat([base, other]))(sd15.signal(20) * other, 20)
    noise, signal = sd15.noise(20), sd15.signal(20)
    apart = 48 * (0.5 * signal) ** 2 / (2 * noise**2)
    assert share[0, 0].item() == pytest.approx(1 / (1 + torch.tensor(apart).exp().item()), rel=1e-4)


@pytest.mark.parametrize("scale", [1.0, 2.0, 7.5])
def test_guidance_of_equal_gaussians_moves_the_mean(sd15, scale):
    """Null N(0, v), text N(m, v): the guided denoiser is that of N(scale * m, v)."""

    def predict(x_t, t, text):
        return gaussian(sd15, text[:, 0], 0.25)(x_t, t)

    x = torch.randn(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    m = torch.tensor([[[0.4, -0.2]]], dtype=torch.float64)
    guided = classifier_free(predict, m, torch.zeros_like(m), scale)
    for t in TIMES:
        torch.testing.assert_close(guided(x, t), gaussian(sd15, scale * m[:, 0], 0.25)(x, t))


def test_drawn_data_have_the_mixture_s_moments(generator):
    drawn = draw(CENTRES, 0.25, 50_000, generator)
    torch.testing.assert_close(drawn.mean(0), CENTRES.mean(0), rtol=0, atol=0.03)
    torch.testing.assert_close(drawn.var(0), CENTRES.var(0, unbiased=False) + 0.25, rtol=0.03, atol=0)


def test_what_cannot_be_answered_is_refused(sd15):
    exactly_clean = type(sd15)(sd15.alpha_bar)
    with pytest.raises(ValueError, match="negative"):
        gaussian(sd15, 0.0, -1.0)
    with pytest.raises(ValueError, match="negative"):
        mixture(sd15, CENTRES, -0.1)
    with pytest.raises(ValueError, match="3 numbers"):
        mixture(sd15, CENTRES, 0.1, torch.tensor([1.0, 1.0]))
    with pytest.raises(ValueError, match="3 numbers"):
        mixture(sd15, CENTRES, 0.1, torch.tensor([1.0, -1.0, 1.0]))
    with pytest.raises(ValueError, match="no noise"):
        mixture(exactly_clean, CENTRES)(CENTRES, CLEAN)
    with pytest.raises(ValueError, match="behind the batch"):
        mixture(sd15, CENTRES)(torch.zeros(2, 3), 10)
