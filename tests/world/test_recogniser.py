"""The recogniser is an instrument: 99 % right on scenes it never saw, 97 % through the autoencoder."""

import pytest

from course import load
from course.train.recogniser import accuracy, held_out_scenes
from course.world.recogniser import Recogniser


@pytest.fixture(scope="module")
def recogniser():
    return Recogniser.load()


def test_rendered_scenes(recogniser):
    right = accuracy(recogniser, held_out_scenes(2000))
    assert min(right.values()) >= 0.99, right


def test_through_the_autoencoder(recogniser):
    right = accuracy(recogniser, held_out_scenes(400), load("stickers").vae)
    assert min(right.values()) >= 0.97, right


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="make weights"):
        Recogniser.load(tmp_path / "none.safetensors")


def test_a_picture_of_another_size_is_refused(recogniser):
    import torch

    with pytest.raises(ValueError, match="64 64"):
        recogniser.read(torch.zeros(1, 3, 32, 32))
