"""Blurs: kernels that move nothing and lose no light, pictures whose truth is known, the same each time."""

import pytest
import torch
from torch.testing import assert_close

from course.world.blur import GRAIN, WIDTH, Blur, blurred, blurred_scenes, kernel, sample_blur
from course.world.scene import Dice

BLURS = [sample_blur(Dice(seed)) for seed in range(1000, 1100)]


def test_kernels_sum_to_one_are_not_negative_and_move_nothing():
    axis = torch.arange(WIDTH) - WIDTH // 2
    for blur in BLURS:
        found = kernel(blur)
        assert found.shape == (WIDTH, WIDTH) and found.min() >= 0
        assert float(found.sum()) == pytest.approx(1, abs=1e-5)
        assert abs(float((found.sum(0) * axis).sum())) < 1e-4 > abs(float((found.sum(1) * axis).sum()))


def test_both_kinds_are_drawn_from_the_ranges_that_are_told():
    sizes = {kind: [b.size for b in BLURS if b.kind == kind] for kind in ("gaussian", "motion")}
    assert 25 <= len(sizes["gaussian"]) <= 55
    assert min(sizes["gaussian"]) >= 0.8 and max(sizes["gaussian"]) <= 1.8
    assert min(sizes["motion"]) >= 3 and max(sizes["motion"]) <= 9
    assert len({b.angle for b in BLURS if b.kind == "motion"}) > 40


def test_a_gaussian_has_its_standard_deviation_and_a_motion_its_length_and_direction():
    axis = (torch.arange(WIDTH) - WIDTH // 2).float()
    spread = kernel(Blur("gaussian", 2.0)).sum(0) @ axis.square()
    assert float(spread) == pytest.approx(4, rel=0.02)
    flat = kernel(Blur("motion", 9.0, angle=0.0))
    assert float(flat[WIDTH // 2].sum()) == pytest.approx(1, abs=1e-4)
    assert_close(flat[WIDTH // 2, 5:12], torch.full((7,), 1 / 9), rtol=0.1, atol=0)
    assert_close(kernel(Blur("motion", 9.0, angle=90.0)), flat.T, rtol=0, atol=1e-5)
    bent = kernel(Blur("motion", 9.0, bend=60.0))
    assert float(bent[WIDTH // 2].sum()) < 0.9
    up = kernel(Blur("motion", 13.0, angle=45.0))  # to the right and up
    assert up[WIDTH // 2 - 3, WIDTH // 2 + 3] > 0.02 > up[WIDTH // 2 + 3, WIDTH // 2 + 3]


def test_a_motion_of_one_pixel_and_a_flat_picture_hardly_change():
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert (blurred(picture, [Blur("gaussian", 0.1)]) - picture).abs().max() < 1e-5
    flat = torch.full((2, 3, 32, 24), 0.3)
    assert_close(blurred(flat, BLURS[:2]), flat)


def test_each_picture_has_its_own_blur():
    pictures = torch.rand(3, 3, 40, 32, generator=torch.Generator().manual_seed(0))
    out = blurred(pictures, BLURS[:3])
    for i in range(3):
        assert_close(out[i : i + 1], blurred(pictures[i : i + 1], BLURS[i : i + 1]))
    assert_close(
        out[:, 1:2].expand(-1, 3, -1, -1), blurred(pictures[:, 1:2].expand(-1, 3, -1, -1), BLURS[:3])
    )


def test_it_is_the_kernel_laid_around_a_point():
    point = torch.zeros(1, 1, 41, 41).expand(1, 3, 41, 41).clone()
    point[..., 20, 20] = 1
    blur = Blur("motion", 11.0, angle=30.0, bend=40.0)
    around = slice(20 - WIDTH // 2, 20 + WIDTH // 2 + 1)
    # conv2d correlates: a point shows the kernel turned by half a turn
    assert_close(blurred(point, [blur])[0, 0, around, around], kernel(blur).flip(0, 1))


def test_scenes_come_blurred_with_their_truth_the_same_each_time():
    sharp, blurry, blurs = blurred_scenes(1000, 6)
    again = blurred_scenes(1000, 6)
    assert torch.equal(sharp, again[0]) and torch.equal(blurry, again[1]) and blurs == again[2]
    assert sharp.shape == blurry.shape == (6, 3, 64, 64) and float(sharp.abs().max()) <= 1
    left = blurry - blurred(sharp, blurs)
    assert float(left.std()) == pytest.approx(GRAIN, rel=0.02) and abs(float(left.mean())) < 1e-3
    assert not torch.equal(sharp, blurred_scenes(1001, 6)[0])


@pytest.mark.parametrize(
    ("kind", "size"), [("gaussian", 0.0), ("gaussian", 5.0), ("motion", 16.0), ("motion", 0.5)]
)
def test_sizes_outside_the_kernel_are_refused(kind, size):
    with pytest.raises(ValueError, match=f"the size of a {kind} blur must lie in"):
        Blur(kind, size)


def test_other_bad_input_is_refused():
    with pytest.raises(ValueError, match="a blur must be one of gaussian, motion"):
        Blur("box", 3)
    with pytest.raises(ValueError, match="1 blurs for 2 pictures"):
        blurred(torch.zeros(2, 3, 32, 32), BLURS[:1])
