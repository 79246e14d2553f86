"""Attention control: equal to diffusers' processors, to attention by hand, and gone when the block ends."""

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import (
    Attention,
    AttnProcessor,
    AttnProcessor2_0,
    IPAdapterAttnProcessor2_0,
    SlicedAttnProcessor,
)
from torch import Tensor
from torch.testing import assert_close

from course.core import attention_processor
from course.core.attention import Site, controlled, on_text, recorded, text_rows

TOKENS, DIM = 6, 12
SD15 = {
    "sample_size": 64,
    "cross_attention_dim": 8,
    "attention_head_dim": 2,
    "norm_num_groups": 2,
    "block_out_channels": (4, 8, 8, 8),  # 320, 640, 1280, 1280 in the original
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}


def tiny_unet(seed: int = 0, **changes: Any) -> UNet2DConditionModel:
    """Cross- and self-attention at 8x8 (down, up) and 4x4 (down, mid, up), fourteen sites."""
    config = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 1,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "attention_head_dim": 2,
        "cross_attention_dim": DIM,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(**{**config, **changes}).eval().requires_grad_(False)
        for (
            name,
            weight,
        ) in unet.named_parameters():  # larger than at the start of training, so that maps matter
            if ".to_q." in name or ".to_k." in name:
                weight.mul_(4)
    return unet


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    return tiny_unet()


@pytest.fixture
def inputs() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    return {
        "sample": torch.randn(2, 4, 8, 8, generator=generator),
        "timestep": torch.tensor(37),
        "encoder_hidden_states": torch.randn(2, TOKENS, DIM, generator=generator),
    }


def identity(probs: Tensor, site: Site, t: int) -> Tensor:
    return probs


def is_cross(site: Site) -> bool:
    return site.kind == "cross"


def output(unet: UNet2DConditionModel, inputs: dict[str, Any]) -> Tensor:
    return unet(**inputs).sample


def test_sd15_has_sixteen_sites_of_each_kind() -> None:
    unet = UNet2DConditionModel(**SD15)
    with controlled(unet, identity) as sites:
        pass
    expected = {"down": 6, "mid": 1, "up": 9}
    assert Counter((site.kind, site.place) for site in sites) == {
        (kind, place): count for kind in ("self", "cross") for place, count in expected.items()
    }
    assert len(set(sites)) == len(unet.attn_processors) == 32


@pytest.mark.parametrize("peer", [AttnProcessor, AttnProcessor2_0, lambda: SlicedAttnProcessor(1)])
@pytest.mark.parametrize("changes", [{}, {"use_linear_projection": True, "upcast_attention": True}])
@pytest.mark.parametrize("masked", [False, True])
def test_identity_control_is_the_unmodified_unet(
    inputs: dict[str, Any], peer: Callable[[], Any], changes: dict[str, Any], masked: bool
) -> None:
    unet = tiny_unet(**changes)
    unet.set_attn_processor({name: peer() for name in unet.attn_processors})
    if masked:
        inputs["encoder_attention_mask"] = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]])
    expected = output(unet, inputs)
    seen = []

    def control(probs: Tensor, site: Site, t: int) -> Tensor:
        assert_close(probs.sum(-1), torch.ones(probs.shape[:-1]))
        if masked and site.kind == "cross":
            assert probs[1, ..., 2:].max() == 0
        seen.append((site, tuple(probs.shape), t))
        return probs

    with controlled(unet, control) as sites:
        assert_close(output(unet, inputs), expected, atol=1e-5, rtol=0)
    assert {site for site, *_ in seen} == set(sites)
    assert len(seen) == len(sites) == 14
    assert {shape for _, shape, _ in seen} == {(2, 2, q, k) for q in (64, 16) for k in (q, TOKENS)}
    assert {t for *_, t in seen} == {37}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_probabilities_are_at_least_float32(inputs: dict[str, Any], dtype: torch.dtype) -> None:
    unet = tiny_unet().to(dtype)
    inputs = {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}
    expected = output(unet, inputs)
    with controlled(unet, identity), recorded(unet) as store:
        got = output(unet, inputs)
    assert {m.dtype for maps in store.maps.values() for m in maps} == {
        torch.promote_types(dtype, torch.float32)
    }
    assert got.dtype == dtype
    assert_close(got, expected, atol=1e-10 if dtype == torch.float64 else 0.1, rtol=0)


@pytest.mark.parametrize("peer", [AttnProcessor, AttnProcessor2_0])
@pytest.mark.parametrize(
    "settings",
    [
        {"cross_attention_dim": DIM},
        {"cross_attention_dim": DIM, "cross_attention_norm": "layer_norm"},
        {
            "cross_attention_dim": DIM,
            "cross_attention_norm": "group_norm",
            "cross_attention_norm_num_groups": 4,
        },
        {"norm_num_groups": 4, "residual_connection": True, "rescale_output_factor": 1.7, "bias": True},
        {"spatial_norm_dim": 5, "residual_connection": True},
    ],
    ids=lambda settings: "+".join(settings),
)
@pytest.mark.parametrize("flat", [True, False])
def test_each_option_of_an_attention_layer(peer: Any, settings: dict[str, Any], flat: bool) -> None:
    spatial = "spatial_norm_dim" in settings
    generator = torch.Generator().manual_seed(2)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        attn = Attention(query_dim=32, heads=2, dim_head=4, processor=peer(), **settings).eval()
    x = torch.randn(3, 32, 4, 4, generator=generator)
    x = x.flatten(2).mT if flat and not spatial else x
    text = torch.randn(3, TOKENS, DIM, generator=generator) if "cross_attention_dim" in settings else None
    more = {"temb": torch.randn(3, 5, 2, 2, generator=generator)} if spatial else {}
    expected = attn(x, text, **more)
    site = Site("mid_block.attn1.processor" if text is None else "mid_block.attn2.processor")
    watch = attention_processor.Watch(None)
    watch.t = 5
    attn.set_processor(attention_processor.Controlled(site, identity, watch, attn.processor))
    assert_close(attn(x, text, **more), expected, atol=1e-5, rtol=0)
    watch.max_tokens = 1  # and the fast way past it
    assert_close(attn(x, text, **more), expected, atol=0, rtol=0)


def test_a_swap_is_attention_with_the_other_rows_map_by_hand(
    unet: UNet2DConditionModel, inputs: dict[str, Any]
) -> None:
    name = "mid_block.attentions.0.transformer_blocks.0.attn2"
    attn, calls = unet.get_submodule(name), []
    handle = attn.register_forward_hook(lambda _, args, out: calls.append((*args, out)))

    def first_row(probs: Tensor, site: Site, t: int) -> Tensor:
        return probs[:1].expand_as(probs)

    plain = output(unet, inputs)
    with controlled(unet, first_row, where=lambda site: site.name == f"{name}.processor"):
        swapped = output(unet, inputs)
    handle.remove()
    x, text, got = calls[1][0], inputs["encoder_hidden_states"], calls[1][-1]
    heads = []
    for part in (slice(0, 8), slice(8, 16)):
        q, k, v = (y @ w.weight[part].T for y, w in ((x, attn.to_q), (text, attn.to_k), (text, attn.to_v)))
        scores = torch.einsum("bqd,bkd->bqk", q, k) / 8**0.5
        probs = scores.exp() / scores.exp().sum(-1, keepdim=True)
        heads.append(torch.einsum("bqk,bkd->bqd", probs[[0, 0]], v))  # row 0's map on each row's own values
    by_hand = torch.cat(heads, -1) @ attn.to_out[0].weight.T + attn.to_out[0].bias
    assert_close(got, by_hand, atol=1e-5, rtol=0)
    assert_close(swapped[0], plain[0], atol=1e-5, rtol=0)
    assert (swapped[1] - plain[1]).abs().max() > 1e-4


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_put_back(unet: UNet2DConditionModel, inputs: dict[str, Any], fails: bool) -> None:
    before, hooks = dict(unet.attn_processors), len(unet._forward_pre_hooks)
    expected = output(unet, inputs)

    def control(probs: Tensor, site: Site, t: int) -> Tensor:
        if fails and site.place == "mid":
            raise RuntimeError("from within a layer")
        return torch.zeros_like(probs)

    try:
        with controlled(unet, control, is_cross):
            untouched = [n for n, p in unet.attn_processors.items() if p is before[n]]
            assert untouched == [n for n in before if ".attn1." in n]
            assert not torch.equal(output(unet, inputs), expected)
    except RuntimeError as error:
        assert fails and "within" in str(error)
    assert all(p is before[n] for n, p in unet.attn_processors.items())
    assert len(unet._forward_pre_hooks) == hooks
    assert torch.equal(output(unet, inputs), expected)


def test_an_empty_choice_is_refused_with_what_there_is(unet: UNet2DConditionModel) -> None:
    with pytest.raises(ValueError, match="none of the 14 attention sites") as caught:  # noqa: SIM117
        with controlled(unet, identity, where=lambda site: site.kind == "crosss"):
            pass
    assert all(name in str(caught.value) for name in unet.attn_processors)


def test_a_processor_with_a_job_of_its_own_is_refused_only_where_chosen(inputs: dict[str, Any]) -> None:
    unet = tiny_unet()
    name = next(name for name in unet.attn_processors if ".attn2." in name)
    special = IPAdapterAttnProcessor2_0(hidden_size=8, cross_attention_dim=DIM)
    unet.set_attn_processor({**unet.attn_processors, name: special})
    with (
        pytest.raises(ValueError, match=r"IPAdapterAttnProcessor2_0 at down_blocks\.0"),
        controlled(unet, identity),
    ):
        pass
    with controlled(unet, identity, where=lambda site: site.kind == "self"):
        assert unet.attn_processors[name] is special
    assert unet.attn_processors[name] is special


@pytest.mark.parametrize("wrong", [lambda p: None, lambda p: p[:1], lambda p: p.mean(1)])
def test_a_control_that_returns_no_map_is_refused(unet: Any, inputs: dict[str, Any], wrong: Any) -> None:
    with (
        pytest.raises(ValueError, match=r"must return shape \[2, 2, .*down_blocks"),
        controlled(unet, lambda probs, site, t: wrong(probs)),
    ):
        output(unet, inputs)


@pytest.mark.parametrize(
    "timestep", [37, 37.0, torch.tensor(37), torch.tensor([37]), torch.tensor([37, 37]), torch.tensor(37.0)]
)
@pytest.mark.parametrize("keyword", [False, True])
def test_the_timestep_arrives_in_every_form(
    unet: UNet2DConditionModel, inputs: dict[str, Any], timestep: Any, keyword: bool
) -> None:
    x, text = inputs["sample"], inputs["encoder_hidden_states"]
    with recorded(unet) as store:
        if keyword:
            unet(sample=x, encoder_hidden_states=text, timestep=timestep)
        else:
            unet(x, timestep, text)
    assert store.times == [37] and type(store.times[0]) is int


def test_rows_at_different_times_are_refused(unet: UNet2DConditionModel, inputs: dict[str, Any]) -> None:
    inputs["timestep"] = torch.tensor([3, 4])
    with (
        pytest.raises(ValueError, match=r"one timestep for all rows, not \[3, 4\]"),
        controlled(unet, identity),
    ):
        output(unet, inputs)


def test_a_part_of_the_unet_has_no_timestep(unet: UNet2DConditionModel, inputs: dict[str, Any]) -> None:
    attn = unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1")
    with pytest.raises(ValueError, match="call the whole unet"), controlled(unet, identity):
        attn(torch.zeros(1, 16, 16))


def test_nested_blocks_on_different_sites(unet: UNet2DConditionModel, inputs: dict[str, Any]) -> None:
    before = dict(unet.attn_processors)

    def blur(probs: Tensor, site: Site, t: int) -> Tensor:
        return torch.full_like(probs, 1 / probs.shape[-1])

    with controlled(unet, blur):
        both = output(unet, inputs)
    with controlled(unet, blur, is_cross):
        with controlled(unet, blur, lambda site: site.kind == "self"):
            assert_close(output(unet, inputs), both)
        assert not torch.allclose(output(unet, inputs), both, atol=1e-4)
        assert sum(p is before[n] for n, p in unet.attn_processors.items()) == 7
    assert all(p is before[n] for n, p in unet.attn_processors.items())


def test_nested_blocks_on_the_same_sites_run_from_the_outside_in(
    unet: UNet2DConditionModel, inputs: dict[str, Any]
) -> None:
    def first_key(probs: Tensor, site: Site, t: int) -> Tensor:
        return torch.nn.functional.one_hot(torch.zeros_like(probs[..., 0]).long(), probs.shape[-1]).float()

    def reverse(probs: Tensor, site: Site, t: int) -> Tensor:
        return probs.flip(-1)

    with (
        recorded(unet) as unedited,
        controlled(unet, first_key, is_cross),
        recorded(unet) as once,
        controlled(unet, reverse, is_cross),
        recorded(unet) as twice,
    ):
        output(unet, inputs)
    assert set(unedited.maps) == set(once.maps) == set(twice.maps)
    for site, (plain,) in unedited.maps.items():
        assert plain.min() > 0 and plain.max() < 1
        assert (once.maps[site][0][..., 0] == 1).all()
        assert (twice.maps[site][0][..., -1] == 1).all()


def test_max_tokens_leaves_large_sites_their_fast_processor(
    unet: UNet2DConditionModel, inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, original = [], AttnProcessor2_0.__call__

    def counted(self: Any, attn: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        fast.append(x.shape[1])
        return original(self, attn, x, *args, **kwargs)

    expected = output(unet, inputs)
    with monkeypatch.context() as patch, recorded(unet, lambda site: True, max_tokens=16) as store:
        patch.setattr(AttnProcessor2_0, "__call__", counted)
        assert_close(output(unet, inputs), expected, atol=1e-5, rtol=0)
    assert {m.shape[-2] for maps in store.maps.values() for m in maps} == {16}
    assert fast == [64] * 6
    # The outer block's limit holds inside an inner block without one.
    with controlled(unet, lambda p, s, t: p * 0, max_tokens=16), recorded(unet, lambda site: True) as store:
        output(unet, inputs)
    assert {m.shape[-2]: m.abs().max() > 0 for (m,) in store.maps.values()} == {64: True, 16: False}


def test_max_tokens_that_leave_nothing_are_refused(
    unet: UNet2DConditionModel, inputs: dict[str, Any]
) -> None:
    with (
        pytest.raises(ValueError, match="left out every chosen site; the smallest has 16 queries"),
        controlled(unet, identity, max_tokens=15),
    ):
        output(unet, inputs)
    with controlled(unet, identity, max_tokens=15):  # nothing was called: nothing to complain of
        pass


def test_a_site_whose_name_belies_it_is_refused(inputs: dict[str, Any]) -> None:
    unet = tiny_unet(only_cross_attention=True)  # attn1 attends to the text as well
    with (
        pytest.raises(ValueError, match=r"attn1\.processor is not the self-attention"),
        controlled(unet, identity),
    ):
        output(unet, inputs)


def test_gradients_pass_through_the_maps(inputs: dict[str, Any]) -> None:
    text = inputs["encoder_hidden_states"].requires_grad_()
    maps = []
    with controlled(tiny := tiny_unet(), lambda p, s, t: maps.append(p) or p, is_cross):
        output(tiny, inputs)
    (gradient,) = torch.autograd.grad(sum(m[..., 2].sum() for m in maps), text)
    assert gradient.abs().max() > 0


def test_adapter_hooks_on_projections_still_act(unet: UNet2DConditionModel, inputs: dict[str, Any]) -> None:
    attn = unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1")
    handle = attn.to_q.register_forward_hook(lambda m, args, out: out + 1)
    expected = output(unet, inputs)
    with controlled(unet, identity):
        got = output(unet, inputs)
    handle.remove()
    assert_close(got, expected, atol=1e-5, rtol=0)
    assert not torch.allclose(got, output(unet, inputs), atol=1e-5)


def test_on_text_shows_only_the_text_rows() -> None:
    probs, site, shapes = torch.rand(6, 2, 4, 5), Site("down.attn2."), []

    def control(rows: Tensor, site: Site, t: int) -> Tensor:
        shapes.append(rows.shape[0])
        return rows + t

    assert_close(on_text(control, 3)(probs, site, 7), torch.cat([probs[:3], probs[3:] + 7]))
    assert_close(on_text(control, 6)(probs, site, 7), probs + 7)  # guidance scale 1: there are no null rows
    assert shapes == [3, 6]
    with pytest.raises(ValueError, match="6 rows are neither 2 texts nor"):
        on_text(control, 2)(probs, site, 7)
    assert torch.equal(text_rows(probs, 3), probs[3:])


def test_maps_average_tokens_heads_sites_and_steps(
    unet: UNet2DConditionModel, inputs: dict[str, Any]
) -> None:
    raw: dict[str, list[Tensor]] = {}

    def keep(probs: Tensor, site: Site, t: int) -> Tensor:
        raw.setdefault(site.name, []).append(probs.clone())
        return probs

    with recorded(unet) as store, recorded(unet, heads=True) as by_head, controlled(unet, keep, is_cross):
        for t in (90, 50, 10):
            output(unet, {**inputs, "timestep": t})
    assert store.times == by_head.times == [90, 50, 10]
    assert {m.shape for maps in store.maps.values() for m in maps} == {(2, 64, TOKENS), (2, 16, TOKENS)}
    small = [maps for maps in raw.values() if maps[0].shape[2] == 16]
    assert len(small) == 4
    expected = sum(m[..., [1, 3]].mean((1, 3)) for maps in small for m in maps).div(12).view(2, 4, 4)
    assert_close(store.mean(4, [1, 3]), expected)
    assert_close(store.mean((2, 8), [1, 3]), expected.view(2, 2, 8))
    assert_close(by_head.mean(4, [1, 3]), expected)
    assert_close(sum(store.mean(8, [i]) for i in range(TOKENS)), torch.ones(2, 8, 8))
    late = sum(maps[2][..., 0].mean(1) for maps in small).div(4).view(2, 4, 4)
    assert_close(store.mean(4, [0], steps=slice(2, None)), late)


def test_what_was_not_recorded_is_refused(unet: UNet2DConditionModel, inputs: dict[str, Any]) -> None:
    with recorded(unet) as store:
        with pytest.raises(ValueError, match="there are: none"):
            store.mean(4, [0])
        output(unet, inputs)
        with pytest.raises(ValueError, match=r"no cross-attention map of 5x5 = 25 queries .*: \[16, 64\]"):
            store.mean(5, [0])
        with pytest.raises(ValueError, match="no self-attention map"):
            store.mean(4, [0], kind="self")
        for positions in ([], [TOKENS], [-1]):
            with pytest.raises(ValueError, match="must be one or more of 0 to 5"):
                store.mean(4, positions)
        output(unet, {k: v[:1] if k != "timestep" else v for k, v in inputs.items()})
    with pytest.raises(ValueError, match="differ in rows or tokens"):
        store.mean(4, [0])


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_it_works_inside_a_pipeline_without_its_help(
    unet: UNet2DConditionModel, caplog: pytest.LogCaptureFixture, guidance: float
) -> None:
    pipeline = StableDiffusionPipeline(
        vae=None,
        text_encoder=None,
        tokenizer=None,
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    text = torch.randn(1, TOKENS, DIM, generator=torch.Generator().manual_seed(5))
    ask = {
        "prompt_embeds": text,
        "negative_prompt_embeds": 0 * text,
        "num_inference_steps": 4,
        "output_type": "latent",
        "height": 64,
        "width": 64,
        "guidance_scale": guidance,
    }

    def draw() -> Tensor:
        return pipeline(**ask, generator=torch.Generator().manual_seed(6)).images

    expected = draw()
    with caplog.at_level(logging.WARNING), recorded(unet, prompts=1) as store:
        assert_close(draw(), expected, atol=1e-4, rtol=1e-4)  # the first steps magnify rounding
    assert not [r for r in caplog.records if "cross_attention_kwargs" in r.message]
    assert store.times == pipeline.scheduler.timesteps.tolist() == [751, 501, 251, 1]
    assert store.mean(8, [1]).shape == (1, 8, 8)
