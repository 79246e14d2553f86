"""The stages of training, each a few steps long on the real classes."""

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors import safe_open

from course.train import autoencoder, denoiser, recogniser, text
from course.train.data import as_images, images, training_scenes
from course.world import Dice, is_held_out, scenes
from course.world.vocabulary import COLOURS, NEW_WORDS, WORDS


def test_training_pictures_are_the_same_each_time_and_hold_nothing_out():
    assert torch.equal(images(5, 7, 4), images(5, 7, 4))
    assert not torch.equal(images(5, 7, 4), images(5, 8, 4))
    assert not any(is_held_out(scene) for step in range(50) for scene in training_scenes(5, step, 8))
    with pytest.raises(ValueError, match=r"seeds 0\.\.999"):
        training_scenes(1000, 0, 1)


def test_standardise_changes_latents_and_no_picture():
    torch.manual_seed(0)
    vae = AutoencoderKL(**autoencoder.CONFIG).eval().requires_grad_(False)
    x = images(1, 0, 32)
    before, sigma = vae.decode(vae.encode(x).latent_dist.mean).sample, vae.encode(x).latent_dist
    ratio = sigma.std / sigma.mean.std((0, 2, 3), keepdim=True)
    autoencoder.standardise(vae, x)
    after = vae.encode(x).latent_dist
    torch.testing.assert_close(vae.decode(after.mean).sample, before, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after.mean.mean((0, 2, 3)), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(after.mean.std((0, 2, 3)), torch.ones(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        after.std / after.mean.std((0, 2, 3), keepdim=True), ratio, atol=1e-4, rtol=1e-3
    )


def test_the_tokenizer_knows_its_words_and_no_others():
    tokenizer = text.make_tokenizer()
    ids = text.tokens(tokenizer, ["a Red cat on grass <new3>"])[0]
    assert ids.shape == (24,)
    assert tokenizer.convert_ids_to_tokens(ids.tolist())[:8] == [
        text.START, "a", "red", "cat", "on", "grass", "<new3>", text.END,
    ]  # fmt: skip
    assert len(tokenizer) == 2 + len(WORDS) + len(NEW_WORDS)
    with pytest.raises(Exception, match=r"UNK"):
        tokenizer("a dragon")


def test_every_caption_fits_the_tokenizer():
    tokenizer, dice = text.make_tokenizer(), Dice(1)
    for scene in scenes(1000, 500, held_out=None):
        (caption,) = text.captions_of([scene], dice)
        assert len(tokenizer(caption).input_ids) <= text.TOKENS


def test_a_twin_differs_and_says_something_else():
    dice = Dice(2)
    drawn = [s for s in scenes(1001, 300) if s.stickers]
    for caption in text.captions_of(drawn, dice):
        other = text.twin(caption, dice)
        assert other != caption
        assert set(other.split()) <= set(WORDS)


def test_colour_labels_are_at_the_kinds():
    tokenizer = text.make_tokenizer()
    caption = "a blue cat to the left of an apple on snow"
    labels = text.colour_labels(tokenizer, [caption])[0]
    told = {i: COLOURS[v] for i, v in enumerate(labels.tolist()) if v >= 0}
    assert told == {3: "blue", 9: "red"}


def test_contrastive_loss_learns_and_uses_the_twins():
    torch.manual_seed(0)
    tokenizer, clip = text.make_tokenizer(), text.make_clip()
    loss = text.ContrastiveLoss(clip)
    drawn = training_scenes(2, 0, 8)
    captions = text.captions_of(drawn, Dice(3))
    ids = text.tokens(tokenizer, captions)
    colours = text.colour_labels(tokenizer, captions)
    twins = text.tokens(tokenizer, [text.twin(c, Dice(i)) for i, c in enumerate(captions)])
    batch = {"images": as_images(drawn), "ids": ids, "colours": colours}
    assert loss(**batch, twins=twins).item() != loss(**batch, twins=ids).item()
    optimizer = torch.optim.AdamW(loss.parameters(), lr=1e-3)
    first = None
    for _ in range(8):
        value = loss(**batch, twins=twins)
        first = first or value.item()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert value.item() < first - 0.5


def test_the_recogniser_is_disturbed_but_not_confused():
    drawn = images(4, 0, 12)
    out = recogniser.disturbed(drawn.clone(), None, torch.Generator().manual_seed(0))
    assert torch.equal(out[:4], drawn[:4])
    assert out.shape == drawn.shape
    assert 0 < (out[8:] - drawn[8:]).abs().mean() < 0.4


def test_the_denoiser_and_its_text_encoder_train_and_are_frozen(tmp_path):
    torch.manual_seed(0)
    vae = AutoencoderKL(**autoencoder.CONFIG).eval().requires_grad_(False)
    autoencoder.standardise(vae, images(1, 0, 16))
    tokenizer = text.make_tokenizer()
    unet, encoder = denoiser.train(tmp_path, vae, tokenizer, steps=3, batch_size=4)
    assert unet.config.cross_attention_dim == encoder.config.hidden_size == 128
    assert not any(p.requires_grad for part in (unet, encoder) for p in part.parameters())
    with safe_open(tmp_path / "denoiser.safetensors", "pt") as file:
        moved = {n for n in file.keys() if n.startswith("exp_avg.") and file.get_tensor(n).any()}  # noqa: SIM118
    assert "exp_avg.text_encoder.embeddings.token_embedding.weight" in moved
    assert "exp_avg.unet.conv_in.weight" in moved


def test_words_are_told_apart_before_any_training():
    """The denoiser hears only what differs: at CLIP's own scale two captions are almost one."""
    tokenizer, encoder = text.make_tokenizer(), text.make_text_encoder().eval()
    ids = text.tokens(tokenizer, ["a red car on grass", "a red cat on grass"])
    with torch.no_grad():
        car, cat = encoder(ids).last_hidden_state[:, 3]
    assert torch.cosine_similarity(car, cat, dim=0) < 0.5
