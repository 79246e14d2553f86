"""Imagic: exact where the answer has a formula, equal to a plain loop, and the weights always come back."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from course.core.adapters import attached, low_rank
from course.core.guidance import classifier_free
from course.core.sampling import last, noise_like, sample
from course.core.training import denoising_loss
from course.core.tuning import restored
from course.embeddings.imagic import fit_embedding, fit_model, imagic, interpolate, run
from tests.core.tiny import as_model, tiny_pipeline
from tests.embeddings import reference

VARIANCE = 0.05


def drawn(seed, *shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Told(nn.Module):
    """The exact denoiser of pictures [b 2 2 2] around the one that the text tells: mean = text @ weight."""

    def __init__(self, schedule, weight):
        super().__init__()
        self.schedule, self.weight = schedule, nn.Parameter(weight.clone(), requires_grad=False)

    def forward(self, x_t, t, text):
        signal, noise = self.schedule.signal(t), self.schedule.noise(t)
        mean = (text.flatten(1) @ self.weight).view_as(x_t)
        return noise * (x_t - signal * mean) / (signal**2 * VARIANCE + noise**2)


def loss_of(predict, schedule, x_0, text, draws=64):
    """The denoising loss over a fixed set of times and noises."""
    rows = x_0.expand(draws, -1, -1, -1)
    t, eps = torch.arange(5, 1000, 1000 // draws)[:draws], drawn(9, *rows.shape, dtype=x_0.dtype)
    with torch.no_grad():
        return float(denoising_loss(predict, schedule, rows, text.expand(draws, -1, -1), eps, t))


# Exact answers.


def test_the_optimised_embedding_is_the_one_that_tells_the_picture(exact, turn, generator):
    """The loss is least where the told mean is x_0, and an orthogonal matrix has one such embedding."""
    told, x_0 = Told(exact, turn), drawn(0, 2, 2, 2, 2)
    embedding = nn.Parameter(drawn(1, 2, 4, 2))
    best = (x_0.flatten(1) @ turn.T).view(2, 4, 2)
    start = (embedding - best).detach().abs().max()
    run(fit_embedding(told, x_0, embedding, exact, steps=400, lr=2e-2, batch=16, generator=generator))
    assert start > 1 and (embedding - best).detach().abs().max() < 0.05


def test_few_steps_leave_the_embedding_near_the_target(exact, turn, generator):
    """Adam moves each number by the rate at most, or a little more, so the path is as long as it may be."""
    target = drawn(1, 1, 4, 2)
    embedding = nn.Parameter(target.clone())
    run(
        fit_embedding(
            Told(exact, turn), drawn(0, 1, 2, 2, 2), embedding, exact, steps=20, generator=generator
        )
    )
    assert 0.01 < (embedding - target).abs().max() < 20 * 2e-3 * 1.2


def test_the_tuned_model_draws_the_picture_at_0_and_the_edit_at_1(exact, turn, generator):
    told, x_0, target = Told(exact, turn), drawn(0, 1, 2, 2, 2), drawn(1, 1, 4, 2)
    options = {
        "embedding_steps": 100,
        "embedding_lr": 5e-3,
        "model_steps": 400,
        "model_lr": 5e-3,
        "batch": 16,
    }
    noise, null, times = drawn(2, 8, 2, 2, 2), torch.zeros(1, 4, 2, dtype=torch.float64), exact.times(20)

    def draw(text):
        return last(sample(classifier_free(told, text, null, 1.0), noise, times, exact)).mean(0, keepdim=True)

    with imagic(told, told, x_0, target, exact, generator=generator, **options) as text:
        drawings = {eta: draw(text(eta)) for eta in (0.0, 0.5, 1.0)}
        moved = (target - text(0.0)).flatten(1) @ told.weight
    far = {eta: float((drawing - x_0).square().mean().sqrt()) for eta, drawing in drawings.items()}
    assert far[0.0] < 0.1 < 0.2 < far[0.5] < far[1.0]
    assert_close(far[0.5], far[1.0] / 2, atol=0.1, rtol=0)  # half way in the text is half way in the picture
    assert_close(drawings[1.0] - drawings[0.0], moved.view_as(x_0), atol=0.1, rtol=0)


# A network.


def tiny_case(model, seed=0):
    x_0 = model.encode(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1)
    return x_0, model.encode_text("a red cat on grass")


def test_the_loss_falls_in_both_stages(tiny, generator):
    (x_0, target), schedule = tiny_case(tiny), tiny.schedule
    embedding = nn.Parameter(target.clone())
    losses = [loss_of(tiny.predict, schedule, x_0, target)]
    run(
        fit_embedding(tiny.predict, x_0, embedding, schedule, steps=20, lr=1e-2, batch=4, generator=generator)
    )
    losses.append(loss_of(tiny.predict, schedule, x_0, embedding))
    with restored(tiny.unet) as weights:
        options = {"steps": 40, "lr": 1e-3, "batch": 4, "generator": generator}
        run(fit_model(tiny.predict, x_0, embedding, weights, schedule, **options))
        losses.append(loss_of(tiny.predict, schedule, x_0, embedding))
    assert losses[0] > losses[1] + 1e-3 and losses[1] > losses[2] + 0.05
    assert loss_of(tiny.predict, schedule, x_0, embedding) == losses[1], "the weights are back"


def test_at_eta_0_the_tuned_model_tells_the_picture_better_than_at_1(tiny, generator):
    x_0, target = tiny_case(tiny)
    options = {"embedding_steps": 20, "embedding_lr": 3e-2, "model_steps": 40, "model_lr": 1e-3, "batch": 4}
    with imagic(tiny.unet, tiny.predict, x_0, target, tiny.schedule, generator=generator, **options) as text:
        at = [loss_of(tiny.predict, tiny.schedule, x_0, text(eta)) for eta in (0.0, 1.0)]
    assert at[0] < at[1]


def state(unet):
    return {name: value.clone() for name, value in unet.state_dict().items()}


def changed(unet, before):
    return [name for name, value in unet.state_dict().items() if not torch.equal(value, before[name])]


@pytest.mark.parametrize("kind", ["weights", "adapters"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_weights_come_back_bit_for_bit(tiny, generator, kind, fails):
    (x_0, target), before = tiny_case(tiny), state(tiny.unet)
    adapters = None
    if kind == "adapters":
        adapters = low_rank(tiny.unet, lambda name, _: name.endswith("to_v"), 2, generator=generator)
    options = {"embedding_steps": 1, "model_steps": 2, "model_lr": 1e-3, "generator": generator}
    with (
        pytest.raises(KeyError) if fails else nullcontext(),
        imagic(tiny.unet, tiny.predict, x_0, target, tiny.schedule, adapters, **options) as text,
    ):
        touched = changed(tiny.unet, before)
        assert touched, "within the block the U-Net is tuned"
        assert adapters is None or all(name.endswith("to_v.weight") for name in touched)
        assert not any(weight.requires_grad for weight in tiny.unet.parameters())
        assert not tiny.predict(x_0, 500, text(0.5)).requires_grad, "sampling builds no graph"
        if fails:
            raise KeyError
    assert not changed(tiny.unet, before)
    assert not any(weight.requires_grad or weight.grad is not None for weight in tiny.unet.parameters())


def test_a_stage_that_is_left_early_leaves_no_gradients_behind(tiny, generator):
    x_0, target = tiny_case(tiny)
    with restored(tiny.unet) as weights:
        stage = fit_model(tiny.predict, x_0, target, weights, tiny.schedule, generator=generator)
        assert next(stage).step == 1
        stage.close()
        assert not any(weight.requires_grad or weight.grad is not None for weight in weights)


def test_adapters_learn_and_the_embedding_stays(tiny, generator):
    x_0, target = tiny_case(tiny)
    embedding, before = nn.Parameter(target.clone()), state(tiny.unet)
    adapters = low_rank(tiny.unet, lambda name, _: name.endswith("to_v"), 2, generator=generator)
    weights = [weight for adapter in adapters.values() for weight in adapter.parameters()]
    with attached(tiny.unet, adapters):
        steps = fit_model(
            tiny.predict, x_0, embedding, weights, tiny.schedule, steps=3, lr=1e-3, generator=generator
        )
        assert [progress.step for progress in steps] == [1, 2, 3]
    assert all(adapter.up.weight.abs().max() > 0 for adapter in adapters.values())
    assert torch.equal(embedding, target) and embedding.grad is None and not changed(tiny.unet, before)


def test_pictures_are_fitted_side_by_side_and_do_not_mix(exact, turn):
    x_0, start = drawn(0, 2, 2, 2, 2), drawn(1, 2, 4, 2)

    def fitted(x_0):
        embedding, generator = nn.Parameter(start.clone()), torch.Generator().manual_seed(0)
        run(fit_embedding(Told(exact, turn), x_0, embedding, exact, steps=9, batch=2, generator=generator))
        return embedding.detach()

    one, two = fitted(x_0), fitted(torch.stack([x_0[0], drawn(2, 2, 2, 2)]))
    assert torch.equal(one[0], two[0]) and (one[1] - two[1]).abs().max() > 1e-3


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_parity_with_a_plain_loop(prediction_type):
    pipeline = tiny_pipeline(prediction_type=prediction_type)
    model = as_model(tiny_pipeline(prediction_type=prediction_type))
    x_0, target = tiny_case(model)
    theirs, tuned = reference.imagic(
        pipeline, x_0, target, 8, (2e-3, 1e-4), 2, torch.Generator().manual_seed(7)
    )
    options = {"embedding_steps": 8, "model_steps": 8, "model_lr": 1e-4, "batch": 2}
    options["generator"] = torch.Generator().manual_seed(7)
    with imagic(model.unet, model.predict, x_0, target, model.schedule, **options) as text:
        ours = {name: weight.clone() for name, weight in model.unet.named_parameters()}
        embedding = text(0.0)
    assert_close(embedding, theirs, atol=1e-4, rtol=0)
    assert max(float((ours[name] - tuned[name]).abs().max()) for name in ours) <= 1e-4
    assert (embedding - target).abs().max() > 5e-3


def test_seventy_seven_tokens_and_a_seed_that_repeats(tiny):
    x_0, target = drawn(0, 1, 4, 8, 8, dtype=torch.float32), drawn(1, 1, 77, 16, dtype=torch.float32)

    def once():
        options = {"embedding_steps": 2, "model_steps": 2, "generator": torch.Generator().manual_seed(0)}
        with imagic(tiny.unet, tiny.predict, x_0, target, tiny.schedule, **options) as text:
            return tiny.predict(x_0, 500, text(0.7))

    assert torch.equal(once(), once())


def test_a_half_precision_model_has_a_float32_embedding(generator):
    model = as_model(tiny_pipeline().to(dtype=torch.bfloat16))
    x_0, target = drawn(0, 1, 4, 8, 8).bfloat16(), model.encode_text("a red cat")
    embedding = nn.Parameter(target.float().clone())
    run(fit_embedding(model.predict, x_0, embedding, model.schedule, steps=2, generator=generator))
    assert embedding.dtype == torch.float32 and (embedding - target).abs().max() > 1e-3
    assert interpolate(target, embedding, 0.5).dtype == torch.bfloat16


def test_interpolation():
    target, optimised = drawn(0, 1, 4, 2), nn.Parameter(drawn(1, 1, 4, 2))
    assert torch.equal(interpolate(target, optimised, 1.0), target)
    assert torch.equal(interpolate(target, optimised, 0.0), optimised.detach())
    assert_close(interpolate(target, optimised, 0.7), 0.7 * target + 0.3 * optimised.detach())
    assert_close(interpolate(target, optimised, 1.2), target + 0.2 * (target - optimised.detach()))
    assert not interpolate(target, optimised, 0.5).requires_grad


# Bad input: refused at once, before the model is asked.


def asked(*_):
    raise AssertionError("the model was asked")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"steps": 0}, "steps must be a whole number from 1"),
        ({"steps": 2.0}, "steps must be a whole number from 1"),
        ({"batch": 0}, "batch must be a whole number from 1"),
        ({"batch": True}, "batch must be a whole number from 1"),
        ({"lr": 0.0}, "a learning rate must be above 0"),
        ({"lr": float("nan")}, "a learning rate must be above 0"),
    ],
)
def test_numbers_out_of_range_are_refused(exact, options, match):
    x_0, embedding = drawn(0, 1, 2, 2, 2), nn.Parameter(drawn(1, 1, 4, 2))
    with pytest.raises(ValueError, match=match):
        fit_embedding(asked, x_0, embedding, exact, **options)
    with pytest.raises(ValueError, match=match):
        fit_model(asked, x_0, embedding, [nn.Parameter(drawn(2, 3))], exact, **options)


def test_other_bad_input_is_refused(exact):
    x_0, embedding = drawn(0, 1, 2, 2, 2), nn.Parameter(drawn(1, 1, 4, 2))
    with pytest.raises(ValueError, match=r"an embedding \[b n d\] for each picture"):
        fit_embedding(asked, drawn(0, 2, 2, 2, 2), embedding, exact)
    with pytest.raises(ValueError, match=r"an embedding \[b n d\] for each picture"):
        fit_embedding(asked, x_0, nn.Parameter(drawn(1, 4, 2)), exact)
    with pytest.raises(ValueError, match="must be float32"):
        fit_embedding(asked, x_0, nn.Parameter(drawn(1, 1, 4, 2).half()), exact)
    with pytest.raises(ValueError, match="nothing to train"):
        fit_model(asked, x_0, embedding, [], exact)
    with pytest.raises(ValueError, match="must be float32"):
        fit_model(asked, x_0, embedding, [nn.Parameter(drawn(2, 3).half())], exact)
    with pytest.raises(ValueError, match="must have one shape"):
        interpolate(drawn(0, 1, 4, 2), drawn(1, 1, 3, 2), 0.5)
    with pytest.raises(ValueError, match="eta must be finite"):
        interpolate(embedding, embedding, float("inf"))


def test_the_draws_come_from_the_generator_and_differ(exact, turn, generator):
    seen = []

    def watched(x_t, t, text):
        seen.append((t, x_t))
        return Told(exact, turn)(x_t, t, text)

    embedding = nn.Parameter(drawn(1, 1, 4, 2))
    run(
        fit_embedding(watched, drawn(0, 1, 2, 2, 2), embedding, exact, steps=50, batch=4, generator=generator)
    )
    times = torch.cat([t for t, _ in seen])
    assert times.min() < 50 and times.max() > 950 and len(times.unique()) > 150
    expected = torch.Generator().manual_seed(0)
    first = torch.randint(1000, (4,), generator=expected)
    eps = noise_like(drawn(0, 4, 2, 2, 2), expected)
    assert torch.equal(seen[0][0], first)
    assert_close(seen[0][1], exact.add_noise(drawn(0, 1, 2, 2, 2).expand(4, -1, -1, -1), eps, first))
