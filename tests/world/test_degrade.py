"""What is taken from a picture: colours, parts, details; known, seeded, in the shares that Palette names."""

import numpy as np
import pytest
import torch
from PIL import Image

from course.train.data import as_images
from course.world import degrade, scenes


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def pictures():
    return as_images(list(scenes(1000, 8)))


def test_grey_is_pils_luminance(pictures):
    found = degrade.grey(pictures)
    assert torch.equal(found[:, 0], found[:, 1]) and torch.equal(found[:, 0], found[:, 2])
    pixels = ((pictures[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    luminance = torch.from_numpy(np.asarray(Image.fromarray(pixels).convert("L")).copy())
    assert ((found[0, 0] + 1) * 127.5 - luminance).abs().max() < 1.01


def test_jpeg_loses_more_at_a_lower_quality(pictures):
    errors = [float((degrade.jpeg(pictures, q) - pictures).square().mean()) for q in (90, 30, 20, 10, 5)]
    assert errors == sorted(errors) and errors[0] < 0.005 < 0.02 < errors[-1]
    each = degrade.jpeg(pictures, [5, 90] * 4)
    assert torch.equal(each[::2], degrade.jpeg(pictures[::2], 5))
    assert torch.equal(each[1::2], degrade.jpeg(pictures[1::2], 90))


@pytest.mark.parametrize("quality", [0, 96, [5, 5], [5] * 7 + [0]])
def test_a_quality_that_there_is_not_is_refused(pictures, quality):
    with pytest.raises(ValueError, match=r"8 pictures need one quality in 1\.\.95"):
        degrade.jpeg(pictures, quality)


def test_low_qualities_are_drawn_as_often_as_said(generator):
    drawn = torch.tensor(degrade.draw_qualities(20_000, generator), dtype=torch.float64)
    assert drawn.min() == 5 and drawn.max() == 30
    ratio = (drawn == 5).double().mean() / (drawn == 15).double().mean()
    assert float(ratio) == pytest.approx(2.718, rel=0.15)


@pytest.mark.parametrize("draw", [degrade.hole, degrade.border])
def test_masks_are_binary_and_the_same_for_the_same_seed(draw):
    one, two = (draw(64, 64, torch.Generator().manual_seed(1)) for _ in range(2))
    assert one.shape == (64, 1, 64, 64) and torch.equal(one, two)
    assert set(one.unique().tolist()) == {0.0, 1.0}
    assert len({tuple(mask.flatten().tolist()) for mask in one}) >= (5 if draw is degrade.border else 60)


def test_a_hole_leaves_most_of_the_picture(generator):
    share = degrade.hole(200, 64, generator).mean((1, 2, 3))
    assert float(share.min()) > 0.05 and float(share.max()) < 0.7 and 0.1 < float(share.mean()) < 0.4


def test_a_border_is_a_side_or_all_around(generator):
    masks = degrade.border(200, 64, generator)
    shares = masks.mean((1, 2, 3))
    assert set(shares.tolist()) == {0.5, 0.75}
    around = masks[shares == 0.75]
    assert len(around) > 20 and (around[:, :, 16:48, 16:48] == 0).all()
    sides = {tuple(mask[0, [0, 0, 63, 63], [0, 63, 0, 63]].tolist()) for mask in masks[shares == 0.5]}
    assert sides == {(1, 1, 0, 0), (0, 0, 1, 1), (1, 0, 1, 0), (0, 1, 0, 1)}
