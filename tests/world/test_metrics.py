"""The metrics, on pictures whose right answer is known by hand."""

import math

import numpy as np
import pytest
import torch

from course.world import Scene, Sticker, edit_tasks, render, scenes
from course.world.metrics import (
    agreement,
    as_tensor,
    frechet_distance,
    mask_iou,
    prompt_accuracy,
    psnr,
    score_edit,
    ssim,
)
from course.world.recogniser import Reading, Recogniser, reading


@pytest.fixture(scope="module")
def recogniser():
    return Recogniser.load()


def test_psnr_by_hand():
    black, grey = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 51, np.uint8)  # 0.2 apart
    assert psnr(black, grey) == pytest.approx(-10 * math.log10(0.04))
    assert psnr(black, black) == math.inf
    half = black.copy()
    half[:4] = 51
    top = np.zeros((8, 8), bool)
    top[:4] = True
    assert psnr(black, half, ~top) == math.inf
    assert psnr(black, half, top) == pytest.approx(-10 * math.log10(0.04))


def test_tensors_and_arrays_are_the_same_picture():
    picture = render(next(scenes(1000, 1)))
    assert psnr(as_tensor([picture]), picture) > 100
    assert ssim(as_tensor([picture])[0], picture) == pytest.approx(1, abs=1e-6)


def test_ssim_falls_with_noise():
    picture = render(Scene((Sticker("house"),), "grass"))
    noisy = np.clip(picture + np.random.default_rng(0).normal(0, 25, picture.shape), 0, 255).astype(np.uint8)
    assert 0.1 < ssim(picture, noisy) < 0.9


def test_mask_iou_by_hand():
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    assert mask_iou(a, b) == 1
    a[:2], b[1:3] = True, True
    assert mask_iou(a, b) == pytest.approx(4 / 12)


def test_bad_pictures_are_refused():
    good = np.zeros((8, 8, 3), np.uint8)
    for bad in (
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 3)),
        torch.zeros(2, 3, 8, 8),
        torch.zeros(1, 8, 8),
    ):
        with pytest.raises(ValueError, match="picture"):
            psnr(good, bad)
    with pytest.raises(ValueError, match="one size"):
        psnr(good, np.zeros((4, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="no pixel"):
        psnr(good, good, np.zeros((8, 8)))


def test_agreement_wants_the_right_sticker_in_the_right_place():
    scene = Scene((Sticker("cat", "blue", 18, 32, 28), Sticker("dog", "red", 46, 32, 28)), "snow")
    assert all(agreement(reading(scene), scene).values())
    swapped = Reading((("dog", "red"), ("cat", "blue")), "snow", "photo")
    assert agreement(swapped, scene) == {"kind": False, "colour": False, "background": True, "style": True}
    colours = Reading((("cat", "red"), ("dog", "blue")), "snow", "photo")
    assert agreement(colours, scene)["kind"] and not agreement(colours, scene)["colour"]
    alone = Reading((("cat", "blue"),), "snow", "photo")
    assert not agreement(alone, scene)["kind"]


def test_the_true_edit_scores_best(recogniser):
    for task in edit_tasks(1005, 21):
        true = score_edit(recogniser, task, as_tensor([task.target_image()]))
        idle = score_edit(recogniser, task, as_tensor([task.source_image()]))
        assert true.target_psnr > 60 > idle.target_psnr
        if task.kind not in ("move",):
            assert true.success and not idle.success, task
        if task.kind != "style":
            assert true.kept_psnr > 60 and idle.kept_psnr > 60


def test_frechet_distance_is_zero_for_the_same_and_grows(recogniser):
    a = as_tensor([render(s) for s in scenes(1006, 400)])
    b = as_tensor([render(s) for s in scenes(1007, 400)])
    other = as_tensor([render(s) for s in scenes(1008, 400)]).flip(-1) * 0.5
    assert frechet_distance(recogniser, a, a) == pytest.approx(0, abs=0.05)
    assert frechet_distance(recogniser, a, b) < frechet_distance(recogniser, a, other) / 3


def test_prompt_accuracy_counts(recogniser):
    drawn = list(scenes(1009, 60))
    pictures = as_tensor([render(s) for s in drawn])
    assert prompt_accuracy(recogniser, pictures, drawn)["all"] > 0.9
    assert prompt_accuracy(recogniser, pictures.roll(1, 0), drawn)["all"] < 0.1
    with pytest.raises(ValueError, match="one for each"):
        prompt_accuracy(recogniser, pictures, drawn[:5])
