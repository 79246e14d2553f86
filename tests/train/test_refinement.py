"""The pair that refines: convolutions alone, a loss that trains both, and what comes back from the disk."""

from itertools import pairwise

import pytest
import torch
from safetensors import safe_open

from course.noise_editing.stochastic_refinement import refinement_loss, stochastic_refinement
from course.train import refinement
from course.train.conv_unet import ConvUNet
from course.train.muon import muon_for
from course.train.refinement import Refinement

TINY = {"predictor": {"in_channels": 3, "widths": (8, 8), "with_level": False}}
TINY["denoiser"] = {"in_channels": 6, "widths": (8, 8), "with_level": True}


def random_pair(config=TINY, seed=0):
    """Networks whose last layer says something, which at birth it does not."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pair = Refinement(ConvUNet(**config["predictor"]), ConvUNet(**config["denoiser"]))
        for network in (pair.predictor, pair.denoiser):
            torch.nn.init.normal_(network.final.weight, std=0.1)
    return pair.eval().requires_grad_(False)


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_batches_are_the_same_each_time_and_levels_lie_in_the_schedule():
    one, two = refinement.blurred_batch(3, 4), refinement.blurred_batch(3, 4)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["sharp"], refinement.blurred_batch(4, 4)["sharp"])
    assert one["sharp"].shape == one["blurry"].shape == one["eps"].shape == (4, 3, 64, 64)
    assert (one["alpha_bar"] >= float(refinement.schedule().alpha_bar[-1])).all()


def test_at_birth_the_prediction_is_the_blurred_picture_and_the_residual_is_unknown():
    pair = Refinement(ConvUNet(**TINY["predictor"]), ConvUNet(**TINY["denoiser"]))
    y, r_t, level = drawn(0, 2, 3, 16, 16), drawn(1, 2, 3, 16, 16), torch.tensor([0.36, 0.75])
    assert torch.equal(pair.predict(y), y)
    torch.testing.assert_close(pair.denoise(r_t, level, y), (1 - level).sqrt().view(-1, 1, 1, 1) * r_t)


def test_eps_of_the_true_v_is_the_noise():
    pair, level = random_pair(), torch.tensor([0.3, 0.9])
    r_0, eps, y = (drawn(i, 2, 3, 16, 16) for i in range(3))
    signal, noise = level.sqrt().view(-1, 1, 1, 1), (1 - level).sqrt().view(-1, 1, 1, 1)
    pair.denoiser.forward = lambda x, alpha_bar: signal * eps - noise * r_0
    torch.testing.assert_close(pair.denoise(signal * r_0 + noise * eps, level, y), eps)


@pytest.mark.parametrize("level", [None, 0.5])
def test_a_place_far_from_the_edges_of_a_crop_is_as_in_the_whole_picture(level):
    """Nothing is pooled over the whole picture: trained on crops, run on anything."""
    pair, y = random_pair(), drawn(0, 1, 3, 160, 160)
    crop = (slice(None), slice(None), slice(16, 144), slice(16, 144))
    inner = (slice(None), slice(None), slice(52, 76), slice(52, 76))
    if level is None:
        whole, part = pair.predict(y), pair.predict(y[crop])
    else:
        r_t, alpha_bar = drawn(1, 1, 3, 160, 160), torch.tensor([level])
        whole, part = pair.denoise(r_t, alpha_bar, y), pair.denoise(r_t[crop], alpha_bar, y[crop])
    torch.testing.assert_close(whole[crop][inner], part[inner], rtol=0, atol=1e-5)
    assert (whole[crop] - part).abs().max() > 1e-3, "at the crop's edges they differ"


def test_the_level_matters_at_every_noise():
    pair, r_t, y = random_pair(), drawn(0, 1, 3, 16, 16), drawn(1, 1, 3, 16, 16)
    stacked = torch.cat([r_t, y], 1)
    answers = [pair.denoiser(stacked, torch.tensor([level])) for level in (1.0, 0.999, 0.9, 0.5, 0.1, 0.007)]
    assert all(answer.isfinite().all() for answer in answers)
    for one, two in pairwise(answers):
        assert (one - two).abs().max() > 1e-4


def test_both_networks_train_go_on_and_are_frozen(tmp_path):
    options = {"steps": 3, "batch_size": 2, **TINY}
    pair = refinement.train(tmp_path, **options)
    assert not any(weight.requires_grad for weight in pair.parameters())
    again = refinement.train(tmp_path, **options)
    assert all(torch.equal(w, again.state_dict()[n]) for n, w in pair.state_dict().items())
    with safe_open(tmp_path / "refinement.safetensors", "pt") as file:
        moved = {n for n in file.keys() if n.startswith("exp_avg.") and file.get_tensor(n).any()}  # noqa: SIM118
    assert {"exp_avg.predictor.first.weight", "exp_avg.denoiser.first.weight"} <= moved


def test_the_loss_is_the_paper_s_and_a_pin_on_the_residual():
    pair, batch = random_pair(), refinement.blurred_batch(0, 2)
    given = (batch["sharp"], batch["blurry"], batch["alpha_bar"], batch["eps"])
    paper = refinement_loss(pair.predict, pair.denoise, *given, scale=pair.scale)
    missed = (pair.predict(batch["blurry"]) - batch["sharp"]).square().mean() / pair.scale**2
    torch.testing.assert_close(pair(**batch), paper + pair.pin * missed)
    unpinned = Refinement(pair.predictor, pair.denoiser, pin=0.0)
    torch.testing.assert_close(unpinned(**batch), paper)


def test_a_few_steps_make_the_loss_smaller():
    torch.manual_seed(0)
    pair = Refinement(ConvUNet(**TINY["predictor"]), ConvUNet(**TINY["denoiser"]))
    optimizer, losses = muon_for(pair, 3e-3, refinement.ENDS), []
    batch = refinement.blurred_batch(0, 4)
    for _ in range(30):
        loss = pair(**batch)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]


def test_what_is_saved_comes_back(tmp_path):
    pair, y = random_pair(), drawn(0, 2, 3, 32, 32)
    for _ in range(2):  # the second time in the place of the first
        refinement.save_refinement(tmp_path / "refinement", pair)
    assert [path.name for path in tmp_path.iterdir()] == ["refinement"]
    found = refinement.refinement_model(tmp_path / "refinement")
    assert not any(weight.requires_grad for weight in found.parameters())
    assert {weight.dtype for weight in found.parameters()} == {torch.float32}
    torch.testing.assert_close(found.predict(y), pair.predict(y), rtol=0, atol=1e-2)
    schedule = refinement.schedule()
    out = stochastic_refinement(
        found.predict, found.denoise, y, schedule.times(3), schedule, scale=found.scale
    )
    assert out.shape == y.shape and out.isfinite().all()


def test_bad_input_is_refused(tmp_path):
    pair = random_pair()
    with pytest.raises(FileNotFoundError, match=r"python -m course\.train refinement"):
        refinement.refinement_model(tmp_path)
    with pytest.raises(ValueError, match="height and width must be multiples of 4"):
        pair.predict(drawn(0, 1, 3, 18, 16))
    with pytest.raises(ValueError, match="needs the noise level"):
        pair.denoiser(drawn(0, 1, 6, 16, 16))


def test_both_ship_in_3_megabytes():
    networks = ConvUNet(**refinement.PREDICTOR), ConvUNet(**refinement.DENOISER)
    assert 2 * sum(weight.numel() for network in networks for weight in network.parameters()) < 3e6
