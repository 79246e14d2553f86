"""Weights that are trained for a while, and are then as they were."""

import pytest
import torch
from torch import nn

from course.core.tuning import restored, training


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).requires_grad_(False)


def state(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def step(net, weights):
    net(torch.ones(4, 3)).square().sum().backward()
    with torch.no_grad():
        for weight in weights:
            weight -= 0.1


def test_weights_take_gradients_within_the_block_only(net):
    with training(net.parameters()) as weights:
        assert all(weight.requires_grad for weight in weights)
        step(net, weights)
        assert all(weight.grad is not None for weight in weights)
    assert not any(weight.requires_grad or weight.grad is not None for weight in net.parameters())


def test_what_took_gradients_before_still_does(net):
    net[0].requires_grad_(True)
    with training(net.parameters()):
        pass
    assert [weight.requires_grad for weight in net.parameters()] == [True, True, False, False]


@pytest.mark.parametrize("fails", [False, True])
def test_bytes_are_as_before_buffers_included_also_after_an_error(net, fails):
    before = state(net)
    try:
        with restored(net) as weights, training(weights):
            step(net, weights)
            assert not torch.equal(net[1].running_mean, before["1.running_mean"])
            assert not same(state(net), before)
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert same(state(net), before)
    assert not any(weight.requires_grad for weight in net.parameters())


def test_the_tensors_stay_the_same_objects(net):
    """Whoever holds a weight, as an optimiser or a trace does, holds it still."""
    held = list(net.parameters())
    with restored(net) as weights:
        assert all(a is b for a, b in zip(held, weights, strict=True))
    assert all(a is b for a, b in zip(held, net.parameters(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_nothing_are_refused(net, dtype):
    with pytest.raises(ValueError, match="must be float32"), training(net.to(dtype).parameters()):
        pass
    with pytest.raises(ValueError, match="nothing to train"), training([]):
        pass
