import importlib
import json
import shutil
import subprocess
import sys

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

import course
from course.core.images import read_image
from course.core.model import SHIPPED, Model, load
from course.core.sampling import last, sample
from tests.core.parity import inversion_difference, pipeline_difference
from tests.core.tiny import SD15, as_model, tiny_pipeline

CAT = "a red cat on grass"
PARTS = ("unet", "vae", "text_encoder")


@pytest.fixture
def broken(tiny_directory, tmp_path):
    """A copy of the tiny checkpoint, to be damaged."""
    return shutil.copytree(tiny_directory, tmp_path / "copy")


# Agreement with diffusers.


@pytest.mark.parametrize("scheduler", [{}, {"set_alpha_to_one": True}, {"timestep_spacing": "trailing"}])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_pictures_are_those_of_the_pipeline(build, scheduler, prediction):
    model = build(prediction_type=prediction, **scheduler)
    assert pipeline_difference(model, [CAT, "a blue dog"], "snow") <= 1e-4


@pytest.mark.parametrize(
    "options", [{"guidance_scale": 1.0}, {"eta": 0.5}, {"eta": 1.0}, {"steps": 25, "negative_prompt": "car"}]
)
def test_so_they_are_unguided_at_random_and_in_many_steps(tiny, options):
    assert pipeline_difference(tiny, [CAT], **options) <= 1e-4


def test_the_parity_check_can_fail(tiny):
    assert pipeline_difference(tiny, [CAT], guidance_scale=0.5) > 1e-3  # diffusers cannot guide below 1


def test_inversion_is_that_of_diffusers(tiny):
    assert inversion_difference(tiny, CAT, steps=20) <= 1e-5


def test_latents_are_those_of_the_pipeline_s_autoencoder(tiny, generator):
    image = torch.rand(2, 3, 16, 16, generator=generator) * 2 - 1
    posterior, scale = tiny.vae.encode(image).latent_dist, tiny.vae.config.scaling_factor
    assert torch.equal(tiny.encode(image), posterior.mode() * scale)
    drawn = posterior.sample(torch.Generator().manual_seed(5)) * scale
    assert torch.equal(tiny.encode(image, torch.Generator().manual_seed(5)), drawn)


def test_a_shift_of_the_latents_is_undone(tiny, monkeypatch, generator):
    image, latents = torch.zeros(1, 3, 16, 16), tiny.noise(1, generator)
    plain, decoded = tiny.encode(image), tiny.decode(latents)
    monkeypatch.setattr(type(tiny), "_shift", 0.25)
    torch.testing.assert_close(tiny.encode(image), plain - 0.25 * tiny.vae.config.scaling_factor)
    torch.testing.assert_close(tiny.decode(latents - 0.25 * tiny.vae.config.scaling_factor), decoded)


# What a model is.


def test_sizes_come_from_the_configs(tiny):
    assert tiny.latent_shape == (4, 8, 8)
    assert (tiny.image_size, tiny.pixels_per_cell, tiny.tokens) == (16, 2, 12)
    assert tiny.encode_text([CAT, ""]).shape == (2, 12, 16)
    assert tiny.encode(torch.zeros(1, 3, 16, 24)).shape == (1, 4, 8, 12)
    assert tiny.decode(tiny.noise(3)).shape == (3, 3, 16, 16)


def test_a_tokenizer_that_states_no_length_takes_the_encoder_s():
    pipeline = tiny_pipeline()
    pipeline.tokenizer.model_max_length = 10**30
    assert as_model(pipeline).tokens == 12


def test_no_graph_is_built(tiny, generator):
    image = tiny.decode(
        last(sample(tiny.denoiser(CAT), tiny.noise(1, generator), tiny.schedule.times(2), tiny.schedule))
    )
    assert not image.requires_grad and not tiny.encode(image).requires_grad
    assert not any(part.training for part in (tiny.unet, tiny.vae, tiny.text_encoder))


def test_gradients_pass_through_a_frozen_model(tiny, generator):
    latents = tiny.noise(1, generator).requires_grad_()
    tiny.predict(latents, 5, tiny.encode_text(CAT)).sum().backward()
    assert latents.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in tiny.unet.parameters())


def test_decoded_images_are_in_range_and_go_back_in(tiny, generator):
    image = tiny.decode(50 * tiny.noise(2, generator))
    assert image.abs().max() <= 1
    assert torch.equal(read_image(image[0]), image[:1])
    tiny.encode(image)


def test_times_may_differ_by_row(build, generator):
    model = build(prediction_type="v_prediction")
    x, text, t = model.noise(2, generator), model.encode_text([CAT, CAT]), torch.tensor([900, 3])
    together = model.predict(x, t, text)
    for row in range(2):
        alone = model.predict(x[row : row + 1], int(t[row]), text[:1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-5)


def test_the_prompt_and_the_negative_prompt_steer(tiny, generator):
    x = tiny.noise(1, generator)
    plain, other, negative = (
        tiny.denoiser(*texts)(x, 500) for texts in ((CAT, ""), ("a blue dog", ""), (CAT, "snow"))
    )
    assert not torch.allclose(plain, other) and not torch.allclose(plain, negative)


def test_one_prompt_serves_a_batch(tiny, generator):
    x = tiny.noise(3, generator)
    one, three = tiny.denoiser(CAT), tiny.denoiser([CAT] * 3, [""] * 3)
    torch.testing.assert_close(one(x, 500), three(x, 500), rtol=0, atol=1e-5)


def test_noise_is_decided_by_the_generator(tiny):
    draws = [tiny.noise(1, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_a_model_says_what_it_is(tiny):
    assert repr(tiny) == "Model(16 px, latents 4x8x8, torch.float32 on cpu)"


def test_the_pipeline_shares_the_weights(tiny):
    pipeline = tiny.pipeline()
    assert (
        pipeline.unet is tiny.unet and pipeline.vae is tiny.vae and pipeline.text_encoder is tiny.text_encoder
    )


# What is refused.


@pytest.mark.parametrize("prompts", ["a purple cat", ["a cat", "a zeppelin"], "a cat " * 12])
def test_unknown_words_and_long_prompts_are_refused(tiny, prompts):
    with pytest.raises(ValueError, match=r"purple|zeppelin|12|10"):
        tiny.encode_text(prompts)
    with pytest.raises(ValueError, match=r"purple|zeppelin|12|10"):
        tiny.denoiser("a cat", prompts)


@pytest.mark.parametrize("prompts", [[], None, [3], 3])
def test_what_is_no_text_is_refused(tiny, prompts):
    with pytest.raises(ValueError, match="a text or a list of texts"):
        tiny.encode_text(prompts)


@pytest.mark.parametrize(
    "shape", [(3, 16, 16), (1, 4, 16, 16), (1, 3, 15, 16), (1, 3, 16, 17), (1, 3, 0, 16), (0, 3, 16, 16)]
)
def test_images_of_other_shapes_are_refused(tiny, shape):
    with pytest.raises(ValueError, match="images must be"):
        tiny.encode(torch.zeros(shape))


@pytest.mark.parametrize("value", [2.0, 255.0, float("nan")])
def test_images_out_of_range_are_refused(tiny, value):
    with pytest.raises(ValueError, match=r"must lie in \[-1, 1\]"):
        tiny.encode(torch.full((1, 3, 16, 16), value))


# Loading.


def test_a_directory_is_opened_in_float32_whatever_it_holds(tiny, tiny_directory, generator):
    model = load(tiny_directory, device="cpu")
    assert (model.dtype, model.device) == (torch.float32, torch.device("cpu"))
    assert model.vae.dtype == model.text_encoder.dtype == torch.float32
    assert model.schedule.times(50) == tiny.schedule.times(50)
    assert model.schedule.final_alpha_bar == tiny.schedule.final_alpha_bar
    x = tiny.noise(1, generator)
    torch.testing.assert_close(model.denoiser(CAT)(x, 500), tiny.denoiser(CAT)(x, 500), rtol=0, atol=0.05)
    assert pipeline_difference(model, [CAT]) <= 1e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_another_type_is_kept_from_text_to_image(tiny_directory, dtype):
    model = load(str(tiny_directory), "cpu", dtype)
    x = model.noise()
    image = model.decode(last(sample(model.denoiser(CAT), x, model.schedule.times(2), model.schedule)))
    assert x.dtype == model.encode(image.float()).dtype == image.dtype == dtype


def test_the_sticker_model_is_a_directory_of_the_package(tiny_directory, monkeypatch):
    assert SHIPPED["stickers"].parts[-3:] == ("course", "weights", "stickers")
    monkeypatch.setitem(SHIPPED, "stickers", tiny_directory)
    assert isinstance(course.load(), Model)


def test_loading_says_nothing_and_leaves_the_libraries_as_talkative_as_they_were(tiny_directory):
    code = f"""
import transformers, diffusers
before = [m.utils.logging.get_verbosity() for m in (transformers, diffusers)]
from course import load
load({str(tiny_directory)!r}, "cpu").pipeline()
assert before == [m.utils.logging.get_verbosity() for m in (transformers, diffusers)]
assert diffusers.utils.logging.is_progress_bar_enabled()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "name", ["no-such-model", "./no/such/folder", "/no/such/folder", "no/such/folder", ""]
)
def test_a_model_that_is_not_there_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((FileNotFoundError, ValueError), match=r"no model at|model_index"):
        load(name)


def test_a_missing_sticker_model_is_not_looked_for_on_the_hub(monkeypatch, tmp_path):
    monkeypatch.setitem(SHIPPED, "stickers", tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match="no model at"):
        load()


def test_a_hub_name_that_cannot_be_had_is_refused(monkeypatch):
    def unreachable(*args, **options):
        assert not options["local_files_only"]
        raise OSError("no connection")

    monkeypatch.setattr(UNet2DConditionModel, "from_pretrained", unreachable)
    with pytest.raises(ValueError, match=r"someone/some-model cannot be opened.*no connection"):
        load("someone/some-model")


def test_a_file_is_not_a_model(tiny_directory):
    with pytest.raises(ValueError, match="is a file"):
        load(tiny_directory / "model_index.json")


ESSENTIAL = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer.json",
    *(f"{part}/config.json" for part in PARTS),
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
]


@pytest.mark.parametrize("file", ESSENTIAL)
def test_a_missing_file_is_named(broken, file):
    (broken / file).unlink()
    with pytest.raises(FileNotFoundError, match=rf"missing .*{file.partition('/')[0]}.*save_pretrained"):
        load(broken)


@pytest.mark.parametrize("damage", ["cut", "empty", "noise"])
@pytest.mark.parametrize("file", ESSENTIAL)
def test_a_broken_file_is_named(broken, file, damage):
    content = (broken / file).read_bytes()
    (broken / file).write_bytes(
        {"cut": content[: len(content) // 2], "empty": b"", "noise": b"\xff" * 99}[damage]
    )
    with pytest.raises(ValueError, match=rf"{file}.*save_pretrained"):
        load(broken)


@pytest.mark.parametrize("file", [file for file in ESSENTIAL if file.endswith("json")])
def test_json_that_holds_no_object_is_refused(broken, file):
    (broken / file).write_text("[]")
    with pytest.raises(ValueError, match=f"{file} must hold a JSON object, not a list"):
        load(broken)


@pytest.mark.parametrize(
    "file", ["model_index.json", "tokenizer/tokenizer.json", "unet/config.json", "vae/config.json"]
)
def test_an_object_without_what_it_should_say_is_refused(broken, file):
    (broken / file).write_text("{}")
    with pytest.raises(ValueError, match="save_pretrained"):
        load(broken)


def test_the_scheduler_config_is_taken_at_its_word(broken):
    # SD 1.5's own file names PNDM; diffusers' pipeline would raise an offset of 0 to 1.
    file = broken / "scheduler" / "scheduler_config.json"
    config = SD15 | {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "steps_offset": 0}
    file.write_text(json.dumps(config))
    model = load(broken, "cpu")
    assert model.schedule.times(50)[0] == 980
    assert model.schedule.final_alpha_bar == float(model.schedule.alpha_bar[0])
    assert pipeline_difference(model, [CAT], "snow") <= 1e-4


@pytest.mark.parametrize("part", PARTS)
def test_weights_that_lack_a_tensor_are_refused_not_drawn_at_random(broken, part):
    (file,) = (broken / part).glob("*.safetensors")
    tensors = load_file(file)
    tensors.pop(sorted(tensors)[3])
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(ValueError, match=f"weights of {part} lack 1 tensors"):
        load(broken)


@pytest.mark.parametrize("part", PARTS)
def test_weights_of_another_shape_are_refused(broken, part):
    (file,) = (broken / part).glob("*.safetensors")
    save_file({name: torch.zeros(*t.shape, 2) for name, t in load_file(file).items()}, file, {"format": "pt"})
    with pytest.raises(ValueError, match="cannot be opened"):
        load(broken)


def test_pickled_weights_are_not_opened(broken):
    file = broken / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(FileNotFoundError, match="pickled weights are not opened"):
        load(broken)


def test_another_family_of_models_is_refused(broken):
    index = json.loads((broken / "model_index.json").read_text())
    index |= {
        "_class_name": "StableDiffusionXLPipeline",
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    }
    (broken / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="StableDiffusionXLPipeline, not Stable Diffusion"):
        load(broken)


def test_a_schedule_we_cannot_walk_is_refused(broken):
    file = broken / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rescale_betas_zero_snr": True}))
    with pytest.raises(ValueError, match="rescale_betas_zero_snr"):
        load(broken)


def test_unknown_devices_and_types_are_refused(tiny_directory, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no device is called"):
        load(tiny_directory, "toaster")
    with pytest.raises(ValueError, match="no CUDA GPU"):
        load(tiny_directory, "cuda")
    with pytest.raises(ValueError, match="floating point"):
        load(tiny_directory, dtype=torch.int64)


def test_the_package_is_imported_without_diffusers():
    code = "import sys, course; assert course.__version__; assert 'diffusers' not in sys.modules, 'slow'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_has_no_other_names():
    assert importlib.import_module("course").load is load
    with pytest.raises(AttributeError, match="no attribute 'sampler'"):
        _ = course.sampler
