"""The weights in the package: what they hold, and that ours and diffusers' code agree on them."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from course import load
from course.core.model import SHIPPED
from course.world import render, scenes
from course.world.metrics import as_tensor
from tests.core.parity import inversion_difference, pipeline_difference
from tests.noise_editing.parity import img2img_difference, inpaint_difference

WEIGHTS = Path(SHIPPED["stickers"]).parent
PROMPTS = ("a red car on grass", "a sketch of a blue cat to the left of a red gift on snow")


@pytest.fixture(scope="module")
def stickers():
    return load("stickers")


@pytest.fixture(scope="module")
def picture():
    return as_tensor([render(next(scenes(1000, 1)))])


def test_sizes_and_kinds_of_files():
    files = [file for file in WEIGHTS.rglob("*") if file.is_file()]
    assert max(file.stat().st_size for file in files) <= 16 * 2**20
    assert sum(file.stat().st_size for file in files) <= 120 * 2**20
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".md", ".png"}


def test_no_file_says_where_it_was_made():
    for file in WEIGHTS.rglob("*.json"):
        assert "_name_or_path" not in file.read_text(), f"{file} names a directory elsewhere"


def test_diffusers_opens_the_directory_alone(stickers):
    pipeline = StableDiffusionPipeline.from_pretrained(
        WEIGHTS / "stickers", local_files_only=True, dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    x_T = stickers.noise(1, torch.Generator().manual_seed(0))
    ask = {"num_inference_steps": 3, "latents": x_T, "output_type": "pt", "height": 64, "width": 64}
    theirs = pipeline(PROMPTS[0], **ask).images
    ours = stickers.pipeline()(PROMPTS[0], **ask).images
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_text_to_image_is_the_pipelines(stickers):
    assert pipeline_difference(stickers, PROMPTS, negative_prompt="a sketch of snow") <= 1e-4


def test_inversion_is_the_inverse_schedulers(stickers):
    assert inversion_difference(stickers, PROMPTS[0]) <= 1e-4


def test_sdedit_is_img2img(stickers, picture):
    assert img2img_difference(stickers, picture, PROMPTS[0], strength=0.6, steps=5) <= 1e-4


def test_blended_diffusion_is_inpainting(stickers, picture):
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 20:52] = 1
    for strength in (1.0, 0.6):
        assert inpaint_difference(stickers, picture, mask, PROMPTS[0], strength, steps=5) <= 1e-4


def test_an_unknown_word_is_named(stickers):
    with pytest.raises(ValueError, match="dragon"):
        stickers.encode_text("a dragon on grass")
    with pytest.raises(ValueError, match="24"):
        stickers.encode_text("a red cat " * 10)


def test_the_model_card_is_of_these_weights():
    """Each file's digest in the card is the file's: a retrained file without a new card fails here."""
    card = (WEIGHTS / "README.md").read_text()
    for file in WEIGHTS.rglob("*.safetensors"):
        assert hashlib.sha256(file.read_bytes()).hexdigest() in card, (
            f"{file.name}: run course.train report --prompts 0"
        )
    scores = json.loads((WEIGHTS / "scores.json").read_text())
    assert scores["figures"]["autoencoder"]["PSNR (dB)"] >= 30
