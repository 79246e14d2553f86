import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course.core.guidance import classifier_free
from course.core.sampling import last, sample


@pytest.fixture
def texts(tiny):
    return tiny.encode_text(["a red cat", "a blue dog"]), tiny.encode_text("")


def test_scale_one_is_the_text_s_prediction_alone(tiny, texts, generator):
    (text, null), x, calls = texts, tiny.noise(2, generator), []

    def predict(x_t, t, text):
        calls.append(len(x_t))
        return tiny.predict(x_t, t, text)

    assert torch.equal(classifier_free(predict, text, null, 1)(x, 500), tiny.predict(x, 500, text))
    assert calls == [2]


def test_one_batched_call_agrees_with_two(tiny, texts, generator):
    (text, null), x, calls = texts, tiny.noise(2, generator), []

    def predict(x_t, t, context):
        calls.append(len(x_t))
        assert torch.equal(context[:2], null.expand(2, -1, -1)) and torch.equal(context[2:], text)
        return tiny.predict(x_t, t, context)

    eps_text, eps_null = tiny.predict(x, 500, text), tiny.predict(x, 500, null.expand(2, -1, -1))
    out = classifier_free(predict, text, null, 7.5)(x, 500)
    torch.testing.assert_close(out, eps_null + 7.5 * (eps_text - eps_null), rtol=0, atol=1e-4)
    assert calls == [4]


@settings(max_examples=50)
@given(st.floats(-20, 20), st.integers(1, 3))
def test_guidance_is_linear_in_the_scale(scale, batch):
    x, text, null = torch.zeros(batch, 1, 2, 2), torch.full((1, 3, 2), 5.0), torch.full((batch, 3, 2), 2.0)

    def predict(x_t, t, text):
        return x_t + text.mean((1, 2))[:, None, None, None]

    out = classifier_free(predict, text, null, scale)(x, 0)
    torch.testing.assert_close(out, torch.full_like(x, 2 + scale * 3), rtol=1e-5, atol=1e-5)


def test_guided_samples_of_gaussians_land_where_the_closed_form_says(sd15, gaussian):
    # Both classes have spread 1, so the guided eps is that of a Gaussian whose mean is extrapolated.
    def predict(x_t, t, text):
        return torch.cat(
            [gaussian(sd15, float(row.mean()), 1.0)(x, t) for row, x in zip(text, x_t[:, None], strict=True)]
        )

    text, null, x = torch.full((1, 1, 1), 2.0), torch.full((1, 1, 1), 0.5), torch.zeros(1, 1, 1, 1)
    guided = last(sample(classifier_free(predict, text, null, 3.0), x, sd15.times(100), sd15))
    expected = last(sample(gaussian(sd15, 0.5 + 3.0 * 1.5, 1.0), x, sd15.times(100), sd15))
    torch.testing.assert_close(guided, expected, rtol=0, atol=1e-4)


def test_gradients_reach_a_text_that_is_being_learnt(tiny, texts, generator):
    text = texts[0].clone().requires_grad_()
    denoise = classifier_free(tiny.predict, text, texts[1], 3.0)
    for _ in range(2):  # a second pass must not meet a graph that the first one freed
        denoise(tiny.noise(2, generator), 5).sum().backward()
    assert text.grad.abs().sum() > 0


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_that_is_no_number_is_refused(scale):
    with pytest.raises(ValueError, match="guidance_scale must be finite"):
        classifier_free(lambda x, t, text: x, torch.ones(1, 3, 2), torch.ones(1, 3, 2), scale)


def test_texts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="agree in tokens"):
        classifier_free(lambda x, t, text: x, torch.ones(1, 3, 2), torch.ones(1, 4, 2), 2.0)
    denoise = classifier_free(lambda x, t, text: x, torch.ones(2, 3, 2), torch.ones(1, 3, 2), 2.0)
    with pytest.raises(ValueError, match="2 rows of text do not fit 3"):
        denoise(torch.ones(3, 1, 2, 2), 0)
