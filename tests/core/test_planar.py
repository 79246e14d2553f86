"""The sets in the plane: their shapes, checked by formulas of their own, and pictures of coloured points."""

import pytest
import torch

from course.core.toys import PLANAR, planar, tinted


def drawn(name, n=20_000, seed=0):
    return planar(name, n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", PLANAR)
def test_each_set_is_centred_of_unit_variance_and_its_generator_s(name):
    points = drawn(name)
    assert points.shape == (20_000, 2) and points.dtype == torch.float32
    torch.testing.assert_close(points.mean(0), torch.zeros(2), rtol=0, atol=1e-5)
    assert points.square().mean().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(points, drawn(name)) and not torch.equal(points, drawn(name, seed=1))
    before = torch.get_rng_state()
    drawn(name)
    assert torch.equal(torch.get_rng_state(), before)


def groups(values, edges):
    """How many values lie between the edges, and which share of all that is."""
    return torch.histogram(values, torch.tensor(edges)).hist / len(values)


def test_three_rings_and_three_squares_are_equally_full_with_nothing_between():
    for name, size in (
        ("rings", lambda p: p.norm(dim=1)),
        ("squares", lambda p: p.abs().amax(1)),
    ):
        radius = size(drawn(name))
        radius = radius * 3.25 / radius.max()  # undo the scale
        share = groups(radius, [0.74, 1.26, 1.74, 2.26, 2.74, 3.26])
        torch.testing.assert_close(share, torch.tensor([1, 0, 1, 0, 1]) / 3, rtol=0, atol=0.02)


def test_a_square_has_corners_and_a_ring_has_none():
    ring, square = drawn("parallel rings"), drawn("parallel squares")
    # The part of the outline's box that the outermost right one reaches in its corner.
    for points, there in ((ring, False), (square, True)):
        right, top = points[:, 0].max(), points[points[:, 0] > points[:, 0].max() - 0.5, 1].max()
        near = ((points - torch.stack([right, top])).abs() < 0.1).all(1).any()
        assert bool(near) == there


@pytest.mark.parametrize("name", ["parallel rings", "parallel squares"])
def test_five_stand_side_by_side_three_above_two(name):
    points = drawn(name)
    above, below = points[:, 1] > points[:, 1].max() - 0.05, points[:, 1] < points[:, 1].min() + 0.05
    upper, lower = (points[rows, 0].sort().values for rows in (above, below))
    assert (upper.diff() > 0.12).sum() == 2
    assert lower[-1] - lower[0] < 0.7 * (upper[-1] - upper[0]) and abs(lower[-1] + lower[0]) < 0.1


def test_two_moons_hang_into_each_other():
    points = drawn("moons")
    left, right = points[points[:, 0] < points[:, 0].quantile(0.25)], points[points[:, 0] > 1]
    assert points[points[:, 1].argmax(), 0] < 0 < points[points[:, 1].argmin(), 0]
    assert left[:, 1].mean() > 0 > right[:, 1].mean()


def test_a_checkerboard_s_dark_fields_are_empty():
    points = drawn("checkerboard")
    low, high = points.amin(0), points.amax(0)
    field = ((points - low) / (high - low) * 4).clamp(max=3.999)
    inside = ((field - field.floor() - 0.5).abs() < 0.45).all(1)  # away from the edges
    parity = field.floor().sum(1) % 2
    assert len(parity[inside].unique()) == 1


@pytest.mark.parametrize(
    ("name", "n", "rule"), [("spiral", 10, "must be one of"), ("moons", 1, "two points")]
)
def test_what_is_no_set_is_refused(name, n, rule):
    with pytest.raises(ValueError, match=rule):
        planar(name, n, torch.Generator())


def test_colours_are_averaged_where_points_meet():
    points = torch.tensor([[-0.9, 0.9], [-0.9, 0.9], [0.9, -0.9], [5.0, 5.0]])
    colours = torch.tensor([[1.0, 0, -1], [0, 0, 1.0], [-1.0, -1, -1], [0, 0, 0]])
    picture = tinted(points, colours, reach=1.0, size=4)
    assert picture.shape == (1, 3, 4, 4)
    assert picture[0, :, 0, 0].tolist() == [0.5, 0.0, 0.0]
    assert picture[0, :, 3, 3].tolist() == [-1.0, -1.0, -1.0]
    assert (picture == 1).all(1).sum() == 14
