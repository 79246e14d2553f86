"""The methods on a U-Net of Stable Diffusion 1.5's shape."""

import torch

from course.core.adapters import low_rank
from course.core.sampling import last
from course.embeddings.imagic import imagic
from course.embeddings.null_text import null_text
from tests.inversion.conftest import sd_shaped, texts


def test_imagic_with_adapters_on_the_attention():
    model, (target,) = sd_shaped(), texts(1)
    x_0, draws = model.noise(1, torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1)
    before = {name: weight.clone() for name, weight in model.unet.state_dict().items()}
    beside = low_rank(model.unet, lambda name, _: ".attn" in name, rank=2, generator=draws)
    given = (model.unet, model.predict, x_0, target, model.schedule, beside)
    options = {"embedding_steps": 2, "model_steps": 2, "model_lr": 1e-3, "generator": draws}
    with imagic(*given, **options) as text:
        tuned = model.predict(x_0, 500, text(0.7))
        plain = text(1.0)
    assert torch.equal(plain, target) and tuned.isfinite().all()
    assert (tuned - model.predict(x_0, 500, text(0.7))).abs().max() > 1e-5
    assert all(torch.equal(weight, before[name]) for name, weight in model.unet.state_dict().items())


def test_null_text_comes_nearer_than_plain_inversion():
    model, (text, null) = sd_shaped(), texts(2)
    x_0, times = model.noise(1, torch.Generator().manual_seed(0)), model.schedule.times(4)
    given = (model.predict, x_0, text, null, times, model.schedule)
    found, plain = (null_text(*given, inner_steps=tries, early_stop=0) for tries in (5, 0))
    missed = [
        float((last(each.sample(model.predict, text, model.schedule)) - x_0).square().mean())
        for each in (found, plain)
    ]
    assert missed[0] < missed[1] and found.nulls[times[0]].shape == (1, 77, 16)
