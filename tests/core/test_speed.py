"""A traced model predicts to the last bit what the model does, and steps aside where it could not."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from course.core.adapters import attached, low_rank, merged
from course.core.attention import controlled, recorded
from course.core.hooks import find, rewriting
from course.core.sampling import last, sample
from course.core.speed import traced


@pytest.fixture(scope="module")
def fast(tiny):
    """Traced at once, with the shape of one guided call seen already."""
    model = traced(tiny, patience=0)
    model.predict(*inputs(model))
    return model


def inputs(model, rows=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return model.noise(rows, generator), 400, torch.randn(rows, 12, 16, generator=generator)


def inside(model):
    return find(model.unet, lambda name, module: name == "mid_block.resnets.0")


def refuse(*_, **__):
    raise AssertionError("the U-Net was called")


def test_the_prediction_is_equal_to_the_last_bit(tiny, fast):
    for t in (0, 1, 400, 999):
        x_t, _, text = inputs(tiny, seed=t)
        assert torch.equal(fast.predict(x_t, t, text), tiny.predict(x_t, t, text))


def test_it_replays_and_does_not_call_the_unet(fast, monkeypatch):
    monkeypatch.setattr(type(fast.unet), "forward", refuse)
    fast.predict(*inputs(fast))
    with pytest.raises(AssertionError, match="the U-Net was called"):
        fast.predict(*inputs(fast, rows=3))


def test_each_shape_has_its_own_trace_after_some_patience(tiny):
    fast = traced(tiny, patience=2)
    for rows in (1, 3):
        for call in range(4):
            x_t, t, text = inputs(tiny, rows, seed=call)
            assert torch.equal(fast.predict(x_t, t, text), tiny.predict(x_t, t, text))
            assert len(fast._traces) == (rows > 1) + (call >= 2)


def test_a_walk_is_equal_to_the_last_bit(build):
    for prediction_type in ("epsilon", "v_prediction"):
        model = build(prediction_type=prediction_type)
        x, times = model.noise(1, torch.Generator().manual_seed(0)), model.schedule.times(5)
        ends = [
            last(sample(one.denoiser("a red cat"), x, times, model.schedule))
            for one in (model, traced(model, patience=0))
        ]
        assert torch.equal(*ends)


def test_hooks_attention_control_and_adapters_are_not_missed(tiny, fast):
    plain = tiny.predict(*inputs(tiny))
    adapters = low_rank(tiny.unet, lambda name, _: name.endswith("to_v"), rank=2)
    for adapter in adapters.values():
        torch.nn.init.constant_(adapter.up.weight, 0.5)
    for block in (
        lambda: rewriting(inside(tiny), lambda h: 2 * h),
        lambda: controlled(tiny.unet, lambda probs, site, t: probs.flip(-1)),
        lambda: attached(tiny.unet, adapters),
        lambda: merged(tiny.unet, adapters),
    ):
        with block(), torch.no_grad():
            changed = tiny.predict(*inputs(tiny))
            assert (changed - plain).abs().max() > 1e-5
            assert torch.equal(fast.predict(*inputs(tiny)), changed)
        assert torch.equal(fast.predict(*inputs(tiny)), plain)


def test_maps_are_recorded(tiny, fast):
    with recorded(tiny.unet) as store:
        fast.predict(*inputs(tiny))
    assert store.maps


def test_a_gradient_passes(tiny, fast):
    x_t, t, text = inputs(tiny)
    slopes = []
    for model in (tiny, fast):
        at, words = x_t.clone().requires_grad_(), text.clone().requires_grad_()
        model.predict(at, t, words).square().sum().backward()
        slopes.append((at.grad, words.grad))
    assert_close(*slopes)
    assert slopes[0][1].abs().max() > 0


def test_a_gradient_reaches_the_weights(tiny, fast):
    weight = tiny.unet.conv_out.weight.requires_grad_(True)
    try:
        fast.predict(*inputs(tiny)).square().sum().backward()
        assert weight.grad.abs().max() > 0
    finally:
        weight.requires_grad_(False).grad = None


def test_a_module_a_weight_or_a_processor_put_in_place_of_another_is_seen(tiny):
    unet = copy.deepcopy(tiny.unet)
    fast = traced(replace(tiny, unet=unet), patience=0)
    for place in (
        "conv_out",
        "conv_out.weight",
        "mid_block.attentions.0.transformer_blocks.0.attn1.processor",
    ):
        assert not fast._watch.changed()
        parent, _, name = place.rpartition(".")
        owner = unet.get_submodule(parent)
        there = getattr(owner, name)
        setattr(
            owner, name, nn.Parameter(there.clone()) if isinstance(there, nn.Parameter) else copy.copy(there)
        )
        assert fast._watch.changed()
        setattr(owner, name, there)


def test_it_is_the_model_in_everything_else(tiny, fast):
    assert fast.unet is tiny.unet and fast.schedule is tiny.schedule and repr(fast) == repr(tiny)
    assert torch.equal(fast.encode_text("a red cat"), tiny.encode_text("a red cat"))
    with pytest.raises(ValueError, match="patience must be 0"):
        traced(tiny, patience=-1)
