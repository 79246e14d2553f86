"""Null-text inversion: exact where the answer has a formula, equal to the authors' loop, never wasteful."""

from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from course.core.guidance import classifier_free
from course.core.sampling import keep_outside, last, sample
from course.core.schedule import CLEAN
from course.embeddings.null_text import null_text, null_text_steps
from course.embeddings.pivotal import Inverted, negative_prompt, pivotal
from tests.core.tiny import as_model, tiny_pipeline
from tests.embeddings import reference

SCALE = 7.5


def drawn(seed, *shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def toy(schedule, turn):
    """eps of pictures N(0, 1/4), plus a push that the text tells: linear in the embedding."""

    def predict(x_t, t, text):
        signal, noise = schedule.signal(t), schedule.noise(t)
        push = (text.flatten(1) @ turn).view_as(x_t)
        return noise * x_t / (signal**2 / 4 + noise**2) + push

    return predict


def toy_case(rows=1):
    x_0, text = drawn(0, rows, 2, 2, 2) / 2, 0.3 * drawn(1, rows, 4, 2)
    return x_0, text, torch.zeros(1, 4, 2, dtype=torch.float64)


def plain(pivot, null):
    return Inverted(pivot, dict.fromkeys(list(pivot)[:-1], null), SCALE)


def errors(steps, pivot):
    return [float((step.x_s - pivot[step.s]).square().mean()) for step in steps]


# Exact answers.


def test_the_null_embedding_is_the_one_that_leads_to_the_pivot(exact, turn):
    """The step is linear in the null, so the best null has a formula; the loss there is 0."""
    (x_0, text, null), predict, times = toy_case(2), toy(exact, turn), exact.times(10)
    pivot = pivotal(predict, x_0, text, times, exact)
    t, s = times[:2]
    step = next(null_text_steps(predict, pivot, text, null, exact, SCALE, 400, early_stop=0))
    a, b = (
        exact.signal(s) / exact.signal(t),
        exact.noise(s) - exact.signal(s) / exact.signal(t) * exact.noise(t),
    )
    needed = (pivot[s] - a * pivot[t]) / b  # the eps whose step from t ends on the pivot
    eps_null = (needed - SCALE * predict(pivot[t], t, text)) / (1 - SCALE)
    best = (eps_null - predict(pivot[t], t, 0 * text)).flatten(1) @ turn.T
    assert best.abs().max() > 0.3
    assert_close(step.null, best.view_as(text), atol=1e-3, rtol=0)
    assert step.losses[0][-1] < 1e-8 < 1e-3 < step.losses[0][0]


def test_the_guided_walk_comes_back_to_the_picture_and_the_plain_one_does_not(exact, turn):
    (x_0, text, null), predict, times = toy_case(2), toy(exact, turn), exact.times(10)
    inverted = null_text(predict, x_0, text, null, times, exact, SCALE, inner_steps=100, early_stop=0)
    found = last(inverted.sample(predict, text, exact))
    assert (found - x_0).abs().max() < 1e-3
    assert (last(plain(inverted.pivot, null).sample(predict, text, exact)) - x_0).abs().max() > 1


def test_losses_fall_within_a_step(exact, turn):
    (x_0, text, null), predict = toy_case(), toy(exact, turn)
    pivot = pivotal(predict, x_0, text, exact.times(10), exact)
    steps = null_text_steps(predict, pivot, text, null, exact, SCALE)
    for step, _ in zip(steps, range(3), strict=False):
        (losses,) = step.losses
        assert len(losses) == 10 and all(before > after for before, after in pairwise(losses))


def test_without_guidance_nothing_is_looked_for(exact, turn):
    (x_0, text, null), predict = toy_case(2), toy(exact, turn)
    pivot, texts = pivotal(predict, x_0, text, exact.times(5), exact), []

    def watched(x_t, t, text):
        texts.append(text)
        return predict(x_t, t, text)

    steps = list(null_text_steps(watched, pivot, text, null, exact, 1.0))
    assert all(step.losses == ((), ()) and torch.equal(step.null, null.expand(2, -1, -1)) for step in steps)
    assert len(texts) == 5 and all(torch.equal(each, text) for each in texts)
    walk = sample(classifier_free(predict, text, null, 1.0), pivot[exact.times(5)[0]], exact.times(5), exact)
    assert_close(steps[-1].step.x_s, last(walk))


def test_negative_prompt_inversion_cancels_guidance_on_the_way_back(exact, turn):
    (x_0, text, null), predict, times = toy_case(2), toy(exact, turn), exact.times(10)
    inverted = negative_prompt(predict, x_0, text, times, exact, SCALE)
    unguided = sample(classifier_free(predict, text, null, 1.0), inverted.pivot[times[0]], times, exact)
    assert_close(last(inverted.sample(predict, text, exact)), last(unguided))
    other, pushed = text + 0.1, inverted.denoiser(predict, text + 0.1)(x_0, times[3])
    eps, eps_other = predict(x_0, times[3], text), predict(x_0, times[3], other)
    assert_close(pushed, eps + SCALE * (eps_other - eps))


# A network.


def tiny_case(model, rows=1):
    """Latents and texts that differ enough for guidance to lead a random U-Net astray."""
    dtype = model.dtype
    x_0 = drawn(0, rows, 4, 8, 8, dtype=torch.float32).to(dtype)
    return x_0, drawn(1, rows, 12, 16).to(dtype), 3 * drawn(2, 1, 12, 16).to(dtype)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_parity_with_the_authors_loop(prediction_type):
    pipeline = tiny_pipeline(prediction_type=prediction_type)
    model = as_model(pipeline)
    (x_0, text, null), times = tiny_case(model), model.schedule.times(6)
    pivot, nulls, walk = reference.null_text(pipeline, x_0, text, null, 6, SCALE)
    inverted = null_text(model.predict, x_0, text, null, times, model.schedule, SCALE)
    ours = [step.x_s for step in inverted.sample(model.predict, text, model.schedule)]
    assert list(inverted.pivot) == times and list(inverted.nulls) == times[:-1]
    for a, b in zip([*inverted.pivot.values(), *ours], [*pivot, *walk[1:]], strict=True):
        assert float((a - b).abs().max()) <= 1e-4
    for a, b in zip(inverted.nulls.values(), nulls, strict=True):
        assert float((a - b).abs().max()) <= 1e-4
    assert float((nulls[-1] - null).abs().max()) > 0.05, "some optimisation took place"


def test_no_step_ends_further_from_the_pivot_than_the_plain_one(tiny):
    (x_0, text, null), schedule = tiny_case(tiny, 2), tiny.schedule
    inverted = null_text(tiny.predict, x_0, text, null, schedule.times(6), schedule, SCALE)
    found = errors(inverted.sample(tiny.predict, text, schedule), inverted.pivot)
    before = errors(plain(inverted.pivot, null).sample(tiny.predict, text, schedule), inverted.pivot)
    assert all(a <= b for a, b in zip(found, before, strict=True)) and found[-1] < 0.9 * before[-1]


def test_the_steps_are_those_of_the_walk_that_the_nulls_give(tiny):
    (x_0, text, null), schedule = tiny_case(tiny), tiny.schedule
    pivot = pivotal(tiny.predict, x_0, text, schedule.times(5), schedule)
    steps = list(null_text_steps(tiny.predict, pivot, text, null, schedule, SCALE))
    nulls = {each.step.t: each.null for each in steps}
    walk = list(Inverted(pivot, nulls, SCALE).sample(tiny.predict, text, schedule))
    for each, step in zip(steps, walk, strict=True):
        assert (each.step.t, each.step.s) == (step.t, step.s)
        assert_close(each.step.x_s, step.x_s, atol=1e-4, rtol=0)


def test_a_step_stops_when_it_is_near_enough(tiny):
    (x_0, text, null), schedule = tiny_case(tiny, 2), tiny.schedule
    pivot = pivotal(tiny.predict, x_0, text, schedule.times(6), schedule)

    def losses(early_stop):
        steps = null_text_steps(tiny.predict, pivot, text, null, schedule, SCALE, early_stop=early_stop)
        return [each.losses for each in steps]

    assert all(len(row) == 1 for rows in losses(1e9) for row in rows)
    assert all(len(row) == 10 for rows in losses(0) for row in rows)
    middle = sorted(row[3] for row in losses(0)[0])[0] * 1.01
    found = losses(middle)
    assert {len(row) for rows in found for row in rows} - {10}, "some row stops early"
    for i, rows in enumerate(found):
        for row in rows:
            assert all(loss >= middle * (1 + 2 * i) for loss in row[:-1])
            assert len(row) == 10 or row[-1] < middle * (1 + 2 * i)


def test_a_batch_is_its_pictures_alone_each_stopping_for_itself():
    """In float64: float32 rounds a batch otherwise than its rows, and fifty steps of Adam make it more."""
    wide = as_model(tiny_pipeline().to(dtype=torch.float64))
    (x_0, text, null), schedule, times = tiny_case(wide, 2), wide.schedule, wide.schedule.times(5)
    assert x_0.dtype == text.dtype == null.dtype == torch.float64

    def run(rows, early_stop):
        pivot = pivotal(wide.predict, x_0[rows], text[rows], times, schedule)
        steps = null_text_steps(wide.predict, pivot, text[rows], null, schedule, SCALE, early_stop=early_stop)
        return list(steps)

    enough = min(row[3] for row in run(slice(0, 2), 0)[0].losses) * 1.01  # one picture's fourth loss
    together, alone = run(slice(0, 2), enough), [run(slice(0, 1), enough), run(slice(1, 2), enough)]
    counts = [[len(row) for row in each.losses] for each in together]
    assert any(a != b for a, b in counts), "the pictures need unlike numbers of steps"
    for row in (0, 1):
        for each, single in zip(together, alone[row], strict=True):
            assert len(each.losses[row]) == len(single.losses[0])
            assert_close(each.null[row], single.null[0], atol=1e-6, rtol=0)
            assert_close(each.step.x_s[row], single.step.x_s[0], atol=1e-6, rtol=0)


def test_only_the_null_is_asked_again_and_only_it_gets_a_gradient():
    """The authors' loop asks two rows for each step; a naive one, two rows for each step of the optimiser."""
    model = as_model(tiny_pipeline())
    model.unet.requires_grad_(True)
    x_0, text, null = tiny_case(model, 2)
    pivot, rows = pivotal(model.predict, x_0, text, model.schedule.times(4), model.schedule), []

    def watched(x_t, t, text):
        rows.append(len(x_t))
        return model.predict(x_t, t, text)

    steps = list(null_text_steps(watched, pivot, text, null, model.schedule, SCALE, 3, early_stop=0))
    assert rows == [2, *[2] * 3, 2] * 4  # the prompt once, each try, and the step
    assert not any(weight.grad is not None for weight in model.unet.parameters())
    assert not any(each.null.requires_grad or each.step.x_s.requires_grad for each in steps)
    assert not any(latents.requires_grad for latents in pivot.values())


def test_the_denoiser_serves_edits_and_several_prompts_at_once(tiny):
    (x_0, text, null), schedule = tiny_case(tiny), tiny.schedule
    inverted = null_text(tiny.predict, x_0, text, null, schedule.times(4), schedule, SCALE, inner_steps=2)
    t, both = schedule.times(4)[1], torch.cat([text, text + 1])
    eps = inverted.denoiser(tiny.predict, both)(x_0.expand(2, -1, -1, -1), t)
    for row, each in enumerate(both):
        guided = classifier_free(tiny.predict, each[None], inverted.nulls[t], SCALE)(x_0, t)
        assert_close(eps[row : row + 1], guided, atol=1e-5, rtol=0)
    edited = last(inverted.sample(tiny.predict, text + 1, schedule))
    assert (edited - last(inverted.sample(tiny.predict, text, schedule))).abs().max() > 1e-2


def test_the_pivot_is_what_a_mask_keeps(tiny):
    (x_0, text, null), schedule, times = tiny_case(tiny), tiny.schedule, tiny.schedule.times(4)
    inverted = negative_prompt(tiny.predict, x_0, text, times, schedule)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    walk = sample(
        inverted.denoiser(tiny.predict, null),
        inverted.pivot[times[0]],
        times,
        schedule,
        intervene=keep_outside(mask, inverted.pivot),
    )
    edited = last(walk)
    assert torch.equal(edited[..., 4:], x_0[..., 4:]) and not torch.equal(edited[..., :4], x_0[..., :4])
    assert torch.equal(inverted.pivot[CLEAN], x_0)


def test_seventy_seven_tokens_in_half_precision_have_float32_nulls():
    model = as_model(tiny_pipeline().to(dtype=torch.bfloat16))
    x_0, text = drawn(0, 1, 4, 8, 8).bfloat16(), drawn(1, 1, 77, 16).bfloat16()
    inverted = null_text(model.predict, x_0, text, 3 * text.flip(1), model.schedule.times(3), model.schedule)
    assert all(null.dtype == torch.float32 and null.shape == text.shape for null in inverted.nulls.values())
    assert last(inverted.sample(model.predict, text, model.schedule)).dtype == torch.bfloat16


# Bad input: refused at once, before the model is asked.


def asked(*_):
    raise AssertionError("the model was asked")


GIVEN = {"text": torch.zeros(1, 4, 2), "null": torch.zeros(1, 4, 2), "times": [900, 500, CLEAN]}


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"times": [500, 900, CLEAN]}, "times must fall"),
        ({"times": [500]}, "times must fall"),
        ({"times": list(range(101, -1, -1))}, "in 1 to 100 steps"),
        ({"text": torch.zeros(1, 5, 2)}, "alike in the last two"),
        ({"null": torch.zeros(3, 4, 2)}, r"must be \[1 or 2"),
        ({"text": torch.zeros(3, 4, 2)}, r"must be \[1 or 2"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be finite"),
        ({"inner_steps": -1}, "inner_steps must be a whole number"),
        ({"inner_steps": 2.5}, "inner_steps must be a whole number"),
        ({"inner_steps": True}, "inner_steps must be a whole number"),
        ({"lr": 0}, "lr must be above 0"),
        ({"lr": float("inf")}, "lr must be above 0"),
        ({"early_stop": -1e-5}, "early_stop 0"),
    ],
)
def test_bad_input_is_refused(exact, changed, match):
    given = GIVEN | changed
    pivot = {t: torch.zeros(2, 2, 2, 2) for t in given.pop("times")}
    with pytest.raises(ValueError, match=match):
        null_text_steps(asked, pivot, given.pop("text"), given.pop("null"), exact, **given)


def test_a_picture_needs_falling_times_and_a_text_that_fits(exact):
    x_0, text = torch.zeros(2, 2, 2, 2), torch.zeros(3, 4, 2)
    with pytest.raises(ValueError, match="times must be at least two and fall"):
        pivotal(asked, x_0, text[:1], [1, 500], exact)
    with pytest.raises(ValueError, match="3 rows of text do not fit 2"):
        pivotal(asked, x_0, text, exact.times(3), exact)


def test_a_time_that_was_not_inverted_is_refused(exact, turn):
    x_0, text, _ = toy_case()
    inverted = negative_prompt(toy(exact, turn), x_0, text, exact.times(4), exact)
    with pytest.raises(ValueError, match="no null embedding for time 501: there are some at"):
        inverted.denoiser(asked, text)(x_0, 501)


def test_a_loss_that_is_not_finite_is_an_error(exact):
    x_0, text, null = toy_case()
    pivot = {500: x_0, 100: x_0, CLEAN: x_0}
    with pytest.raises(FloatingPointError, match="the loss of step 1 is"):
        list(null_text_steps(lambda x_t, t, text: x_t / 0 * text.sum(), pivot, text, null, exact))
