"""InstructPix2Pix: guidance exact on Gaussian data and equal to its peer, a widening that adds nothing."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from course.attention.instruct_pix2pix import (
    beside,
    drop,
    encode_image,
    fit_instruct_pix2pix,
    use_instruct_pix2pix,
    widen,
)
from course.core.guidance import classifier_free
from course.core.sampling import last, sample
from course.core.schedule import Schedule
from tests.attention.conftest import sd_shaped, texts


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def seeing(model, size=0.2):
    """The model's U-Net, widened, with weights that make it see the picture."""
    wide = widen(model.unet)
    new = wide.conv_in.weight[:, wide.config.in_channels // 2 :]
    with torch.no_grad():
        new.copy_(size * drawn(1, *new.shape))
    return wide


# The guidance: exact for Gaussian data whose mean the picture and the text decide.


class Known(nn.Module):
    """A U-Net whose answer is exact where x_0 is N(image + text, variance); it says eps or v."""

    def __init__(self, schedule, variance):
        super().__init__()
        self.schedule, self.variance = schedule, variance
        self.config = SimpleNamespace(in_channels=4)
        self.rows = []

    def forward(self, both, t, encoder_hidden_states, return_dict):
        x_t, image = both.chunk(2, 1)
        a, n = self.schedule.signal(t), self.schedule.noise(t)
        mean = image + encoder_hidden_states.mean((1, 2))[:, None, None, None]
        eps = n * (x_t - a * mean) / (a * a * self.variance + n * n)
        self.rows.append(len(both))
        return (eps if self.schedule.prediction_type == "epsilon" else (eps - n * x_t) / a,)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("text_scale", "image_scale"), [(7.5, 1.5), (1, 1), (3.0, 0.5), (0.0, 2.0)])
def test_on_gaussian_data_each_scale_multiplies_its_own_part_of_the_mean(
    prediction_type, text_scale, image_scale
):
    schedule = Schedule.from_config({"prediction_type": prediction_type})
    image, text, null = drawn(0, 2, 2, 4, 4).double(), torch.full((1, 3, 5), 0.7), torch.full((1, 3, 5), 0.1)
    given = (image, text.double(), null.double(), schedule, text_scale, image_scale)
    found = use_instruct_pix2pix(Known(schedule, 0.25), *given)
    x_t = drawn(2, 2, 2, 4, 4).double()
    for t in (10, 500, 990):
        a, n = schedule.signal(t), schedule.noise(t)
        mean = 0.1 + image_scale * image + text_scale * (0.7 - 0.1)
        assert_close(found(x_t, t), n * (x_t - a * mean) / (a * a * 0.25 + n * n))


def test_sampling_ends_at_the_guided_mean():
    full = Schedule.from_config({"timestep_spacing": "trailing"})  # the walk ends without noise
    image, text, null = drawn(0, 1, 2, 4, 4).double(), torch.full((1, 3, 5), 0.7), torch.zeros(1, 3, 5)
    given = (image, text.double(), null.double(), full, 2.0, 1.5)
    denoise = use_instruct_pix2pix(Known(full, 1e-6), *given)
    out = last(sample(denoise, drawn(1, 3, 2, 4, 4).double(), full.times(50), full))
    assert_close(out, (1.5 * image + 1.4).expand(3, -1, -1, -1), rtol=0, atol=0.01)


def test_at_one_and_one_it_asks_once_for_image_and_text_else_for_three(sd15):
    unet, (image, text) = Known(sd15, 1.0), (torch.zeros(1, 2, 4, 4), torch.ones(1, 3, 5))
    for scales, options in (((1, 1), {}), ((2, 1), {}), ((2.0, 0.5), {"compat": "diffusers"})):
        use_instruct_pix2pix(unet, image, text, 0 * text, sd15, *scales, **options)(image, 500)
    assert unet.rows == [1, 3, 1]


def test_the_rows_are_as_diffusers_stacks_them(sd15):
    asked = []

    class Watched(Known):
        def forward(self, both, t, encoder_hidden_states, return_dict):
            asked.append((both[:, 2:, 0, 0].mean(1).tolist(), encoder_hidden_states.mean((1, 2)).tolist()))
            return super().forward(both, t, encoder_hidden_states, return_dict)

    image, text = torch.full((1, 2, 4, 4), 3.0), torch.full((1, 3, 5), 2.0)
    use_instruct_pix2pix(Watched(sd15, 1.0), image, text, 0 * text, sd15)(drawn(0, 1, 2, 4, 4), 500)
    assert asked == [([3.0, 3.0, 0.0], [2.0, 0.0, 0.0])]


# The peer.


def pipeline_difference(model, unet, images, prompts, scales, compat=None, steps=5):
    """Largest difference of pictures in [-1, 1] to StableDiffusionInstructPix2PixPipeline's, with DDIM."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import StableDiffusionInstructPix2PixPipeline

        parts = model.pipeline().components | {"unet": unet, "scheduler": None}
        pipeline = StableDiffusionInstructPix2PixPipeline(**parts, requires_safety_checker=False)
        pipeline.scheduler = DDIMScheduler.from_config(model.scheduler_config)
        pipeline.set_progress_bar_config(disable=True)
        x_T = model.noise(len(prompts), torch.Generator().manual_seed(0))
        theirs = pipeline(
            prompts,
            image=(images + 1) / 2,
            num_inference_steps=steps,
            guidance_scale=scales[0],
            image_guidance_scale=scales[1],
            latents=x_T,
            output_type="pt",
        ).images
    image = encode_image(model.vae, images)
    text, null = model.encode_text(prompts), model.encode_text("")
    denoise = use_instruct_pix2pix(unet, image, text, null, model.schedule, *scales, compat=compat)
    ours = model.decode(last(sample(denoise, x_T, model.schedule.times(steps), model.schedule)))
    return float((ours - (theirs * 2 - 1)).abs().max())


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(4)) * 2 - 1


PROMPTS = ["a red cat", "a sketch of a dog on snow"]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("scales", [(7.5, 1.5), (3.0, 1.0)])
def test_parity(build, images, prediction_type, scales):
    model = build(prediction_type=prediction_type)
    assert pipeline_difference(model, seeing(model), images, PROMPTS, scales) <= 1e-4


@pytest.mark.parametrize("scales", [(7.5, 0.5), (1.0, 1.5), (0.5, 2.0)])
def test_where_diffusers_turns_guidance_off_we_do_so_on_request_only(tiny, images, scales):
    unet = seeing(tiny)
    assert pipeline_difference(tiny, unet, images, PROMPTS, scales, compat="diffusers") <= 1e-4
    assert pipeline_difference(tiny, unet, images, PROMPTS, scales) > 1e-3


def test_the_image_s_latents_are_the_mode_unscaled(tiny, images):
    assert tiny.vae.config.scaling_factor != 1
    assert_close(encode_image(tiny.vae, images), tiny.encode(images) / tiny.vae.config.scaling_factor)


# The widening.


def test_a_widened_network_is_the_old_one_whatever_it_sees(tiny):
    wide, text = widen(tiny.unet), tiny.encode_text(["a cat", "a dog"])
    x_t, image = drawn(0, 2, 4, 8, 8), 10 * drawn(1, 2, 4, 8, 8)
    assert torch.equal(beside(wide, image, tiny.schedule)(x_t, 500, text), tiny.predict(x_t, 500, text))
    null = tiny.encode_text("")
    guided = use_instruct_pix2pix(wide, image, text, null, tiny.schedule, 7.5, 1.5)
    assert_close(
        guided(x_t, 500), classifier_free(tiny.predict, text, null, 7.5)(x_t, 500), atol=1e-5, rtol=0
    )
    assert tiny.unet.config.in_channels == 4 and tiny.unet.conv_in.weight.shape[1] == 4


def test_it_draws_no_randomness_and_is_frozen_as_the_old_one(tiny):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    assert not any(weight.requires_grad for weight in widen(tiny.unet).parameters())
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_diffusers_saves_and_loads_it(tiny, tmp_path, dtype):
    wide = seeing(tiny).to(dtype)
    wide.save_pretrained(tmp_path)
    again = UNet2DConditionModel.from_pretrained(tmp_path, use_safetensors=True, torch_dtype=dtype)
    assert again.config.in_channels == again.conv_in.in_channels == 8
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in wide.state_dict().items())


# The training.


def test_of_a_hundred_rows_five_lose_their_text_five_both_and_five_their_image():
    r = torch.arange(100) / 100 + 0.001
    image, text, null = torch.ones(100, 1, 2, 2), torch.ones(100, 3, 4), torch.zeros(1, 3, 4)
    seen, told = drop(image, text, null, r)
    blind, mute = (seen == 0).flatten(1).all(1), (told == 0).flatten(1).all(1)
    assert mute.nonzero().flatten().tolist() == list(range(10))
    assert blind.nonzero().flatten().tolist() == list(range(5, 15))
    assert torch.equal(seen[~blind], image[~blind]) and torch.equal(told[~mute], text[~mute])
    assert torch.equal(drop(image, text, null, r, 0.0)[0], image)


def test_it_learns_to_copy_the_picture_it_sees(tiny):
    """The picture after is the one before: eps is then known from x_t and the picture."""
    unet, draws = widen(tiny.unet), torch.Generator().manual_seed(0)
    text, null = tiny.encode_text(["a cat"] * 8), tiny.encode_text("")
    pairs = ((x := drawn(i, 8, 4, 8, 8), x, text) for i in range(60))
    fitted = list(fit_instruct_pix2pix(unet, pairs, null, tiny.schedule, lr=5e-3, generator=draws))
    losses = [each.loss for each in fitted]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    assert unet.conv_in.weight[:, 4:].abs().max() > 0.01
    assert not any(weight.requires_grad for weight in unet.parameters())
    assert tiny.unet.conv_in.weight.shape[1] == 4


def test_the_loss_is_that_of_eps_at_random_times(sd15):
    """A network that says 0 misses eps by its mean square, 1."""
    unet = Known(sd15, 1.0)
    unet.weight = nn.Parameter(torch.ones(1))
    unet.forward = lambda both, t, **_: (0 * unet.weight * both[:, :2],)
    pair, null = (drawn(0, 512, 2, 4, 4), drawn(1, 512, 2, 4, 4), drawn(2, 512, 3, 5)), drawn(3, 1, 3, 5)
    (step,) = fit_instruct_pix2pix(unet, [pair], null, sd15, generator=torch.Generator().manual_seed(0))
    assert step.loss == pytest.approx(1, abs=0.05)


# Stable Diffusion 1.5's shape.


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_u_net_of_stable_diffusion_s_shape(dtype):
    model, (text, null) = sd_shaped(dtype), texts(2, dtype)
    unet, image = seeing(model), model.noise(1, torch.Generator().manual_seed(1))
    x_T, times = model.noise(2, torch.Generator().manual_seed(0)), model.schedule.times(3)
    draws = [
        last(
            sample(
                use_instruct_pix2pix(unet, image, text, null, model.schedule, 7.5, scale),
                x_T,
                times,
                model.schedule,
            )
        )
        for scale in (1.0, 1.5)
    ]
    assert all(out.shape == x_T.shape and out.dtype == dtype and out.isfinite().all() for out in draws)
    assert (draws[0] - draws[1]).abs().max() > 1e-2


# Bad input: refused at the door, before a model is asked.


def refuse(match, image=None, text=None, null=None, **options):
    schedule = Schedule.from_config({})
    image, text = (torch.zeros(1, 2, 4, 4) if image is None else image), torch.zeros(1, 3, 5)
    null = text if null is None else null
    with pytest.raises(ValueError, match=match):
        use_instruct_pix2pix(Known(schedule, 1.0), image, text, null, schedule, **options)


@given(st.sampled_from([float("nan"), float("inf"), float("-inf")]))
def test_scales_that_are_not_finite_are_refused(scale):
    refuse("guidance_scale must be finite", guidance_scale=scale)
    refuse("image_guidance_scale must be finite", image_guidance_scale=scale)


@given(st.floats(allow_nan=True).filter(lambda x: not 0 <= x <= 1 / 3))
def test_a_dropout_outside_its_range_is_refused(share):
    with pytest.raises(ValueError, match="within \\[0, 1/3\\]"):
        drop(torch.zeros(2, 1, 2, 2), torch.zeros(2, 3, 4), torch.zeros(1, 3, 4), torch.rand(2), share)


def test_other_bad_input_is_refused(tiny, sd15):
    refuse("compat must be one of", compat="paper")
    refuse("must agree in tokens and width", null=torch.zeros(1, 4, 5))
    refuse("reads 4 channels, twice those of the image", image=torch.zeros(1, 4, 4, 4))
    unet, text = Known(sd15, 1.0), torch.zeros(1, 3, 5)
    denoise = use_instruct_pix2pix(unet, torch.zeros(2, 2, 4, 4), text, text, sd15)
    with pytest.raises(ValueError, match="2 rows of image or text do not fit 3 rows of latents"):
        denoise(torch.zeros(3, 2, 4, 4), 500)
    with pytest.raises(ValueError, match="widen one of a text-to-image model"):
        widen(widen(tiny.unet))
    null = tiny.encode_text("")
    with pytest.raises(ValueError, match="must be float32"):
        fit_instruct_pix2pix(widen(tiny.unet).half(), [], null, tiny.schedule)
    with pytest.raises(ValueError, match="within \\[0, 1/3\\]"):
        fit_instruct_pix2pix(widen(tiny.unet), [], null, tiny.schedule, dropout=0.5)
