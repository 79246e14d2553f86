"""The two models that never met: their scenes, a few steps of training, and what a model of one is."""

from itertools import chain

import pytest
import torch
from diffusers import AutoencoderKL

from benchmarks.tiny import random_model
from course.train import autoencoder, domains
from course.train.muon import Muon, muon_for
from course.world import is_held_out

TINY = domains.CONFIG | {"block_out_channels": (16, 16, 16), "norm_num_groups": 4, "attention_head_dim": 8}


@pytest.fixture(scope="module")
def vae():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoencoderKL(**autoencoder.CONFIG).eval().requires_grad_(False)


def same(a, b):
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


def test_the_domains_have_their_style_and_one_large_sticker_and_no_scene_in_common():
    found = {style: list(domains.domain_scenes(seed, 60, style)) for style, seed in domains.SEEDS.items()}
    for style, scenes in found.items():
        assert scenes == list(domains.domain_scenes(domains.SEEDS[style], 60, style)) and len(scenes) == 60
        assert {scene.style for scene in scenes} == {style}
        stickers = [scene.stickers for scene in scenes]
        assert all(len(each) == 1 and each[0].size >= domains.LARGE for each in stickers)
        assert {each[0].kind for each in stickers} == set(domains.KINDS)
    assert not any(map(is_held_out, chain(*found.values())))
    seen = [{(scene.stickers, scene.background, scene.seed) for scene in scenes} for scenes in found.values()]
    assert not seen[0] & seen[1]
    with pytest.raises(ValueError, match="a domain must be one of photo, sketch; got 'watercolor'"):
        next(domains.domain_scenes(1000, 1, "watercolor"))


def test_the_loss_is_that_of_v(vae):
    """A network that says 0 misses v by its mean square, which is 1 for unit latents at every time."""
    unet = domains.UNet2DConditionModel(**TINY)
    torch.nn.init.zeros_(unet.conv_out.weight)
    torch.nn.init.zeros_(unet.conv_out.bias)
    draws = torch.Generator().manual_seed(0)
    latents, eps = (torch.randn(64, 8, 16, 16, generator=draws) for _ in range(2))
    for t in (0, 500, 999):
        found = domains.VLoss(unet)(latents, eps, torch.full((64,), t))
        assert float(found.detach()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("style", domains.SEEDS)
def test_a_domain_trains_goes_on_and_is_frozen(tmp_path, vae, style):
    options = {"steps": 2, "batch_size": 2, "pictures": 4, "config": TINY}
    unet = domains.train(tmp_path, vae, style, **options)
    assert not unet.training and not any(weight.requires_grad for weight in unet.parameters())
    assert same(unet, domains.train(tmp_path, vae, style, **options)), "what is finished is not redone"
    assert [file.stem for file in tmp_path.glob("*.safetensors")] == [f"domain_{style}"]


def test_muon_trains_all_but_the_ends():
    unet = domains.UNet2DConditionModel(**TINY)
    optimizer = muon_for(unet, 1e-3, domains.ENDS)
    assert isinstance(optimizer, Muon)
    matrices, rest = (set(map(id, group["params"])) for group in optimizer.param_groups)
    assert len(matrices) + len(rest) == len(list(unet.parameters()))
    assert {id(unet.conv_in.weight), id(unet.conv_out.weight)} <= rest
    assert id(unet.mid_block.resnets[0].conv1.weight) in matrices


def test_what_is_saved_comes_back_as_a_model_that_reads_no_words(tmp_path):
    stickers, unet = random_model(), domains.UNet2DConditionModel(**domains.CONFIG)
    for _ in range(2):  # the second time in the place of the first
        domains.save_domain(tmp_path / "photo", unet)
    assert [path.name for path in tmp_path.iterdir()] == ["photo"]
    model = domains.domain_model("photo", stickers, tmp_path)
    assert model.latent_shape == stickers.latent_shape and model.vae is stickers.vae
    assert not any(weight.requires_grad for weight in model.unet.parameters())
    x_t = model.noise(2, torch.Generator().manual_seed(0))
    one, two = (model.denoiser(prompt, guidance_scale=1)(x_t, 500) for prompt in ("", "a red cat on grass"))
    assert one.shape == x_t.shape and torch.equal(one, two)
    torch.testing.assert_close(model.unet.conv_in.weight, unet.conv_in.weight, rtol=1e-3, atol=1e-4)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"python -m course\.train domains"):
        domains.domain_model("sketch", random_model(), tmp_path)
    with pytest.raises(ValueError, match="a domain must be one of"):
        domains.domain_model("a sketch", random_model(), tmp_path)


def test_both_ship_in_10_megabytes():
    unet = domains.UNet2DConditionModel(**domains.CONFIG)
    assert 2 * 2 * sum(weight.numel() for weight in unet.parameters()) < 10e6
