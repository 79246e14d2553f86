"""A control to enter again and again: the same as `controlled`, and nothing between two blocks."""

from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from torch import Tensor

from course.core.attention import Site, controlled, recorded
from course.core.scoped import scoped
from tests.core.test_attention import identity, is_cross, output, tiny_unet


@pytest.fixture(scope="module")
def unet() -> Any:
    return tiny_unet()


@pytest.fixture
def inputs() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    return {
        "sample": torch.randn(2, 4, 8, 8, generator=generator),
        "timestep": torch.tensor(37),
        "encoder_hidden_states": torch.randn(2, 6, 12, generator=generator),
    }


def flip(probs: Tensor, site: Site, t: int) -> Tensor:
    assert t == 37
    return probs.flip(-1)


def blur(probs: Tensor, site: Site, t: int) -> Tensor:
    return torch.full_like(probs, 1 / probs.shape[-1])


def test_every_block_is_a_controlled_block_and_nothing_stays_in_between(unet, inputs):
    before, plain = dict(unet.attn_processors), output(unet, inputs)
    with controlled(unet, flip, is_cross) as sites:
        expected = output(unet, inputs)
    assert not torch.allclose(plain, expected, atol=1e-4)
    scope = scoped(unet, flip, is_cross)
    for _ in range(3):
        with scope as found:
            assert found == sites
            assert torch.equal(output(unet, inputs), expected)
        assert all(p is before[name] for name, p in unet.attn_processors.items())
        assert not unet._forward_pre_hooks
        assert torch.equal(output(unet, inputs), plain)


def test_blocks_nest_with_themselves_and_with_others_from_the_outside_in(unet, inputs):
    with controlled(unet, flip, is_cross), controlled(unet, blur, is_cross), recorded(unet) as expected:
        output(unet, inputs)
    inner, outer = scoped(unet, blur, is_cross), scoped(unet, flip, is_cross)
    with outer, inner, recorded(unet) as store:
        output(unet, inputs)
    assert all(torch.equal(store.maps[site][0], maps[0]) for site, maps in expected.maps.items())
    plain = output(unet, inputs)
    with recorded(unet) as once, outer, outer, recorded(unet) as twice:  # flipped and flipped back
        output(unet, inputs)
    assert all(torch.equal(twice.maps[site][0], maps[0]) for site, maps in once.maps.items())
    assert torch.equal(output(unet, inputs), plain)


def test_a_call_that_fails_leaves_nothing_behind(unet, inputs):
    before = dict(unet.attn_processors)

    def fails(probs: Tensor, site: Site, t: int) -> Tensor:
        raise RuntimeError("from within a layer")

    scope = scoped(unet, fails)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="within"), scope:
            output(unet, inputs)
        assert all(p is before[name] for name, p in unet.attn_processors.items())
        assert not unet._forward_pre_hooks


def test_what_controlled_refuses_is_refused(inputs):
    unet = tiny_unet()
    with pytest.raises(ValueError, match="none of the 14 attention sites"):
        scoped(unet, identity, lambda site: False)
    with pytest.raises(ValueError, match="max_tokens=1 left out every chosen site"):  # noqa: SIM117
        with scoped(unet, identity, max_tokens=1):
            output(unet, inputs)
    name = next(iter(unet.attn_processors))
    special = IPAdapterAttnProcessor2_0(hidden_size=8, cross_attention_dim=12)
    unet.set_attn_processor({**unet.attn_processors, name: special})
    with pytest.raises(ValueError, match="is not plain attention"):
        scoped(unet, identity)
