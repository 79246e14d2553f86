import pytest
import torch

from course.core.exact import draw, mixture
from course.core.sampling import last, sample
from course.core.toys import PointDenoiser, density, points_in
from course.core.training import denoising_loss, fit, warmup_stable_decay

CORNERS = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])


def net(seed=0):
    return PointDenoiser(1000, torch.Generator().manual_seed(seed))


def test_the_weights_come_from_the_generator_alone():
    before = torch.get_rng_state()
    first, again, other = net(0), net(0), net(1)
    assert torch.equal(torch.get_rng_state(), before)
    x = torch.ones(3, 2)
    assert torch.equal(first(x, 10), again(x, 10)) and not torch.equal(first(x, 10), other(x, 10))


def test_one_time_or_a_time_for_each_point():
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    each = net()(x, torch.tensor([0, 10, 500, 999]))
    torch.testing.assert_close(each[2:3], net()(x[2:3], 500))
    assert not torch.allclose(net()(x, 0), net()(x, 999), atol=1e-3)
    with pytest.raises(ValueError, match=r"\[b 2\]"):
        net()(torch.zeros(4, 3), 0)


def test_training_comes_near_the_exact_answer(sd15, generator):
    trained, variance = net(), 0.04

    def batches(steps):
        for _ in range(steps):
            eps = torch.randn(128, 2, generator=generator)
            yield (
                draw(CORNERS, variance, 128, generator),
                eps,
                torch.randint(1000, (128,), generator=generator),
            )

    def loss(batch, model=trained):
        x_0, eps, t = batch
        return denoising_loss(lambda x_t, t, _: model(x_t, t), sd15, x_0, None, eps, t)

    for _ in fit(loss, batches(300), trained.parameters(), 4e-3, schedule=warmup_stable_decay(300, 20)):
        pass
    trained.requires_grad_(False)
    exact, errors = mixture(sd15, CORNERS, variance), []
    for t in (200, 500, 800):
        x_0, eps, _ = next(batches(1))
        x_t = sd15.add_noise(x_0, eps, t)
        errors.append((trained(x_t, t) - exact(x_t, t)).square().mean().item())
    assert max(errors) < 0.05, errors
    x_T = torch.randn(200, 2, generator=generator)
    out = last(sample(trained, x_T, sd15.times(50), sd15))
    assert torch.cdist(out, CORNERS).min(1).values.median() < 0.5


def test_points_stand_as_the_picture_does():
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[1, 2], mask[1, 6], mask[5, 2] = True, True, True  # two above, the right one further right
    points = points_in(mask)
    torch.testing.assert_close(points.mean(0), torch.zeros(2))
    assert points.square().mean().item() == pytest.approx(1)
    left, right, below = points
    assert right[0] > left[0] and right[1] == left[1] and below[1] < left[1] and below[0] == left[0]
    with pytest.raises(ValueError, match="two pixels"):
        points_in(torch.zeros(8, 8))


def test_density_is_dark_where_the_points_are():
    points = torch.tensor([[-0.9, 0.9]] * 3 + [[0.9, -0.9]] + [[5.0, 5.0]])
    picture = density(points, reach=1.0, size=4)
    assert picture.shape == (1, 1, 4, 4)
    assert picture[0, 0, 0, 0] < picture[0, 0, 3, 3] < 1 and (picture == 1).sum() == 14
    assert (density(torch.full((2, 2), 9.0)) == 1).all()
