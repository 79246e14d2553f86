"""The course's CLIP tells right captions from wrong ones."""

import pytest
import torch

from course.core.clip import load_clip
from course.train.text import captions_of, twin
from course.world import Dice, render, scenes
from course.world.metrics import as_tensor


@pytest.fixture(scope="module")
def clip():
    return load_clip()


@pytest.fixture(scope="module")
def pictures():
    drawn = [scene for scene in scenes(1010, 330) if scene.stickers][:300]
    return as_tensor([render(scene) for scene in drawn]), captions_of(drawn, Dice(1))


def test_the_true_caption_beats_one_of_a_changed_word(clip, pictures):
    images, captions = pictures
    dice = Dice(2)
    wrong = clip.score(images, [twin(caption, dice) for caption in captions])
    assert (clip.score(images, captions) > wrong).float().mean() > 0.9


def test_a_picture_finds_its_caption_among_a_hundred(clip, pictures):
    images, captions = pictures
    found = (clip.embed_images(images[:100]) @ clip.embed_text(captions[:100]).T).argmax(1)
    assert (found == torch.arange(100)).float().mean() > 0.7


def test_vectors_have_length_one_and_gradients_reach_the_picture(clip, pictures):
    images = pictures[0][:2].clone().requires_grad_()
    vectors = clip.embed_images(images)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2))
    clip.score(images, "a red car on grass").sum().backward()
    assert images.grad.abs().sum() > 0


def test_another_size_is_resized(clip, pictures):
    images, captions = pictures
    large = torch.nn.functional.interpolate(images[:20], scale_factor=2)
    torch.testing.assert_close(
        clip.score(large, captions[:20]), clip.score(images[:20], captions[:20]), atol=0.1, rtol=0
    )


def test_bad_input(clip, tmp_path):
    with pytest.raises(ValueError, match="dragon"):
        clip.embed_text("a dragon on grass")
    with pytest.raises(FileNotFoundError, match="make weights"):
        load_clip(tmp_path / "none")


def test_loading_shows_no_progress_bar(capfd):
    load_clip()
    assert "Loading" not in capfd.readouterr().err, "a progress bar leaves a widget in a notebook"
