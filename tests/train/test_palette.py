"""Palette's networks: what they are shown, a few steps of each, and what is saved."""

import pytest
import torch
from diffusers import UNet2DModel

from course.train import palette
from course.train.data import as_images, training_scenes
from course.world import degrade

TINY = palette.CONFIG | {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "attention_head_dim": 8}


def made(config=TINY):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return palette.Palette(UNet2DModel(**config)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pictures():
    return as_images(training_scenes(9, 0, 8))


@pytest.mark.parametrize("task", palette.TASKS)
def test_what_is_left_is_the_picture_where_it_is_known(pictures, task):
    left, mask = palette.degraded(task, pictures, torch.Generator().manual_seed(1))
    assert left.shape == pictures.shape and mask.shape == (8, 1, 64, 64)
    known = (mask == 0).expand_as(left)
    assert torch.equal(left[known], pictures[known])
    assert not torch.equal(left[~known], pictures[~known])
    if task in ("colourisation", "jpeg"):
        assert mask.all()
    else:
        assert left[~known].std() == pytest.approx(1, abs=0.05) and left[~known].mean().abs() < 0.05
    if task == "colourisation":
        assert torch.equal(left, degrade.grey(pictures))


def test_another_task_is_refused(pictures):
    with pytest.raises(ValueError, match="a task of Palette must be one of colourisation"):
        palette.degraded("deblurring", pictures, torch.Generator())


def test_eps_and_the_picture_are_two_names_of_one_answer(pictures):
    model, generator = made(), torch.Generator().manual_seed(0)
    gamma, eps = torch.tensor([0.2, 0.9]), torch.randn(2, 3, 64, 64, generator=generator)
    level = gamma.view(-1, 1, 1, 1)
    y_t = level.sqrt() * pictures[:2] + (1 - level).sqrt() * eps
    given = pictures[2:4], y_t, gamma
    y_t_again = level.sqrt() * model.picture(*given) + (1 - level).sqrt() * model(*given)
    torch.testing.assert_close(y_t_again, y_t, atol=1e-5, rtol=1e-5)


def test_a_share_of_what_is_left_is_added(pictures):
    """A network whose last layer is silent says half of x; one that is sure says all of it."""
    model = made()
    torch.nn.init.zeros_(model.unet.conv_out.weight)
    torch.nn.init.zeros_(model.unet.conv_out.bias)
    given = pictures[:2], pictures[2:4], torch.tensor([0.5, 0.5])
    torch.testing.assert_close(model.picture(*given), pictures[:2] / 2)
    model.unet.conv_out.bias[3 * palette.PATCH**2 :] = 30.0
    torch.testing.assert_close(model.picture(*given), pictures[:2])


def test_the_level_and_what_is_left_count(pictures):
    model, x, y_t = made(), pictures[:2], pictures[2:4]
    first = model(x, y_t, torch.tensor([0.5, 0.5]))
    assert not torch.allclose(first, model(x, y_t, torch.tensor([0.6, 0.6])), atol=1e-4)
    assert not torch.allclose(first, model(pictures[4:6], y_t, torch.tensor([0.5, 0.5])), atol=1e-4)


def test_a_regression_answers_without_noise(pictures):
    model = made()
    nothing = torch.zeros(2, 3, 64, 64), torch.zeros(2)
    answers = [model.picture(pictures[:2], *nothing), model.regress(pictures[:2])]
    assert torch.equal(*answers)


def test_a_batch_is_the_same_for_the_same_step_and_holds_the_tasks():
    net = palette.NETS["all"]
    one, two, other = (palette.batch_of(net, step, 8) for step in (3, 3, 4))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["y"], other["y"])
    shares = one["mask"].mean((1, 2, 3))
    assert (shares[[0, 1, 6, 7]] == 1).all() and (shares[2:6] < 1).all()
    assert set(shares[4:6].tolist()) <= {0.5, 0.75}
    assert torch.equal(one["x"][0], degrade.grey(one["y"])[0])


def test_a_perfect_regression_has_no_loss(monkeypatch):
    loss = palette.PaletteLoss(palette.NETS["regression"], made())
    batch = palette.batch_of(loss.net, 0, 4)
    for off, expected in ((0, 0), (2, 4)):
        monkeypatch.setattr(palette.Palette, "regress", lambda self, x, off=off: batch["y"] + off)
        assert float(loss(**batch)) == pytest.approx(expected, rel=1e-5)


def same(a, b):
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


@pytest.mark.parametrize("name", palette.NETS)
def test_each_goes_on_from_the_start_and_is_frozen(tmp_path, name):
    start = made()
    options = {"steps": 2, "batch_size": 4}
    model = palette.train(tmp_path, name, start, **options)
    assert same(start, made()) and not same(model, start), "the start stays, for the others"
    assert same(model, palette.train(tmp_path, name, start, **options)), "what is finished is not redone"
    assert not any(weight.requires_grad for weight in model.parameters()) and not model.training
    assert [file.stem for file in tmp_path.glob("*.safetensors")] == [f"palette_{name}"]


def test_the_start_learns_all_tasks(tmp_path):
    model = palette.train_start(tmp_path, steps=2, batch_size=4, config=TINY)
    assert same(model, palette.train_start(tmp_path, steps=2, batch_size=4, config=TINY))
    assert [file.stem for file in tmp_path.glob("*.safetensors")] == ["palette_start"]
    with pytest.raises(ValueError, match="a network of Palette must be one of"):
        palette.train(tmp_path, "start", model)


def test_what_is_saved_comes_back(tmp_path, pictures):
    model = made()
    for _ in range(2):
        palette.save_palette(tmp_path / "all", model)
    assert [path.name for path in tmp_path.iterdir()] == ["all"]
    found = palette.palette_model(folder=tmp_path)
    assert not any(weight.requires_grad for weight in found.parameters())
    gamma = torch.tensor([0.5])
    answers = [each(pictures[:1], pictures[1:2], gamma) for each in (model, found)]
    torch.testing.assert_close(*answers, rtol=1e-2, atol=1e-2)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"python -m course\.train palette"):
        palette.palette_model(folder=tmp_path)
    with pytest.raises(ValueError, match="a network of Palette must be one of"):
        palette.palette_model("uncropping")


def test_each_ships_in_10_megabytes():
    with torch.device("meta"):
        unet = UNet2DModel(**palette.CONFIG)
    assert 2 * sum(weight.numel() for weight in unet.parameters()) < 10e6
