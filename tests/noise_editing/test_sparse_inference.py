"""Sparse inference: exact where it must be, elsewhere what dense layers and a blend give."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from course.core.adapters import attached, low_rank
from course.core.attention import recorded
from course.core.hooks import recording
from course.core.model import Model
from course.core.operations import Operations
from course.core.sampling import last, sample
from course.core.speed import traced
from course.noise_editing.active import Active
from course.noise_editing.region import dilate
from course.noise_editing.sdedit import sdedit
from course.noise_editing.sparse_inference import cached, difference_mask, sparse_inference
from tests.core.tiny import as_model, tiny_pipeline

T = 500


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with random weights, biases and norms too, frozen."""
    generator = torch.Generator().manual_seed(seed)
    for weight in module.parameters():
        fan_in = max(weight.numel() // len(weight), 4) if weight.ndim else 1
        weight.data = torch.randn(weight.shape, generator=generator) / fan_in**0.5
    return module.requires_grad_(False).eval()


def rectangle(height: int, width: int, seed: int) -> Tensor:
    """A random rectangle in a picture, [1 1 h w]."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(1, 1, height, width)
    ends = [sorted(torch.randint(side, (2,), generator=generator).tolist()) for side in (height, width)]
    (top, bottom), (left, right) = ends
    mask[..., top : bottom + 1, left : right + 1] = 1
    return mask


def edit_of(x: Tensor, mask: Tensor) -> Tensor:
    return x + mask * gaussian(*x.shape, seed=9)


def stack() -> nn.Module:
    """Convolutions of every kind. They spread an edit by 1 + 2 + 1 cells, and as far again at half size."""
    return drawn(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2, bias=False),
            nn.Conv2d(8, 6, (1, 3), padding=(0, 1)),
            nn.Conv2d(6, 6, 1),
            nn.Conv2d(6, 8, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(8, 4, 2),
        )
    )


def unet_like_sd15(**changed) -> UNet2DConditionModel:
    """Stable Diffusion 1.5's blocks, made narrow: four levels, 4 latent channels, a layer a block."""
    shape = {"block_out_channels": (16, 32, 32, 32), "layers_per_block": 1, "norm_num_groups": 8}
    options = shape | {"sample_size": 16, "cross_attention_dim": 16, "attention_head_dim": 4} | changed
    return drawn(UNet2DConditionModel(**options))


@pytest.fixture(scope="module")
def sd15_unet() -> UNet2DConditionModel:
    return unet_like_sd15()


@pytest.fixture
def text() -> Tensor:
    return gaussian(2, 77, 16, seed=3)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("height", "width"), [(16, 16), (13, 22), (3, 2)])
def test_convolutions_alone_are_exact(seed: int, height: int, width: int) -> None:
    network, x, change = stack(), gaussian(2, 3, height, width), rectangle(height, width, seed)
    edited = edit_of(x, change)
    with cached(network) as cache:
        network(x)
    for block in (1, 4, 5):
        with sparse_inference(network, cache, dilate(change, 8), block=block, margin=2):
            found = network(edited)
        assert_close(found, network(edited), rtol=0, atol=1e-5)


def test_a_mask_too_narrow_cuts_off_what_spreads() -> None:
    network, x = stack(), gaussian(1, 3, 32, 32)
    change = torch.zeros(1, 1, 32, 32)
    change[..., 12:16, 12:16] = 1
    edited, found = edit_of(x, change), {}
    with cached(network) as cache:
        network(x)
    for grown in (0, 8):
        with sparse_inference(network, cache, dilate(change, grown), block=1, margin=2):
            found[grown] = network(edited)
    dense = network(edited)
    assert (found[0] - dense).abs().max() > 0.01
    assert_close(found[8], dense, rtol=0, atol=1e-5)


def test_no_cell_outside_the_blocks_is_touched_and_no_edit_vanishes() -> None:
    one = torch.zeros(1, 1, 64, 64)
    one[..., 37, 5] = 1
    active = Active(one, block=4, margin=0)
    for size in (64, 32, 16, 8, 4, 2, 1):
        cells = active.cells((size, size))
        assert cells.sum() == min(size, 4) ** 2
        assert cells[37 * size // 64, 5 * size // 64]
    assert Active(one, 1, 0).at((65, 65)).sum() >= 1  # the odd size that a padded shrinking layer sees
    assert Active(one, 1, 0).cells((128, 128)).sum() == 4  # and a decoder's larger maps


def test_the_rows_that_are_gathered_are_those_of_unfold() -> None:
    conv, x = nn.Conv2d(3, 5, 3, stride=2, padding=2, dilation=2), gaussian(2, 3, 9, 12)
    cells = Active(torch.ones(1, 1, 9, 12), block=4).of(conv, x, (5, 6))
    expected = F.unfold(x, 3, dilation=2, padding=2, stride=2)
    assert torch.equal(cells.gather(x), expected.transpose(1, 2).flatten(0, 1))
    into = torch.zeros(2, 27, 5, 6)
    assert torch.equal(cells.scatter(cells.gather(x), into).flatten(2), expected)
    assert not into.any(), "the original's map must stay as it is"


def test_the_difference_mask_is_any_channel_grown_to_a_square() -> None:
    x = torch.zeros(2, 3, 20, 20)
    edited = x.clone()
    edited[1, 2, 8, 9] = -0.03
    edited[0, 0, 15, 2] = 0.019
    mask = difference_mask(x, edited, dilation=2)
    assert mask.shape == (1, 1, 20, 20) and mask.sum() == 25
    assert mask[0, 0, 6:11, 7:12].all()
    assert difference_mask(x, edited, epsilon=0.01, dilation=0).sum() == 2
    assert difference_mask(x, x).sum() == 0


@pytest.mark.parametrize("linear", [False, True])
def test_an_empty_mask_gives_the_original_s_answer(text: Tensor, linear: bool) -> None:
    unet, x = unet_like_sd15(use_linear_projection=linear), gaussian(2, 4, 16, 16)
    with cached(unet) as cache:
        original = unet(x, T, text).sample
    assert list(cache.steps) == [T] and cache.bytes > 0
    with sparse_inference(unet, cache, torch.zeros(1, 1, 16, 16)):
        assert torch.equal(unet(edit_of(x, torch.ones(1)), T, text).sample, original)


@pytest.mark.parametrize("linear", [False, True])
def test_a_full_mask_gives_the_dense_answer(text: Tensor, linear: bool) -> None:
    unet, x = unet_like_sd15(use_linear_projection=linear), gaussian(2, 4, 16, 16)
    edited = edit_of(x, torch.ones(1))
    with cached(unet) as cache:
        unet(x, T, text)
    with sparse_inference(unet, cache, torch.ones(1, 1, 16, 16), "own"):
        found = unet(edited, T, text).sample
    assert_close(found, unet(edited, T, text).sample, rtol=0, atol=1e-5)
    with sparse_inference(unet, cache, torch.ones(1, 1, 16, 16)):
        assert (unet(edited, T, text).sample - found).abs().max() > 1e-3, "the norms were the original's"


def test_without_a_change_any_mask_gives_the_original(sd15_unet, text: Tensor) -> None:
    x = gaussian(2, 4, 16, 16)
    with cached(sd15_unet) as cache:
        original = sd15_unet(x, T, text).sample
    for seed, statistics in enumerate(("original", "own")):
        with sparse_inference(sd15_unet, cache, rectangle(16, 16, seed), statistics):
            assert_close(sd15_unet(x, T, text).sample, original, rtol=0, atol=1e-5)


def blended(unet: nn.Module, x: Tensor, edited: Tensor, text: Tensor, mask: Tensor) -> Tensor:
    """What sparse inference is to give, computed densely: each layer in full, then put back where not active.

    The blocks are found cell by cell, with loops.
    """
    kept: dict[nn.Module, Tensor] = {}
    masks = {16: mask[0, 0]}
    for size in (8, 4, 2):
        shrunk = masks[16].reshape(size, 16 // size, size, 16 // size).amax((1, 3))
        masks[size] = dilate(shrunk[None, None], 1)[0, 0]

    def touched(source: Tensor, out: int, kernel: int, stride: int) -> Tensor:
        block, found = min(4, out), torch.zeros(out, out, dtype=torch.bool)
        firsts, reach = range(0, out, block), (block - 1) * stride + kernel
        for top in firsts:
            for left in firsts:
                y, z = (max(first * stride - kernel // 2, 0) for first in (top, left))
                ends = [first * stride - kernel // 2 + reach for first in (top, left)]
                if source[y : ends[0], z : ends[1]].any():
                    found[top : top + block, left : left + block] = True
        return found

    def conv(layer: nn.Conv2d, args: tuple[Tensor], out: Tensor) -> Tensor:
        where = touched(masks[args[0].shape[2]], out.shape[2], layer.kernel_size[0], layer.stride[0])
        return torch.where(where, out, kept.setdefault(layer, out))

    def norm(layer: nn.GroupNorm, args: tuple[Tensor], out: Tensor) -> Tensor:
        groups = args[0].unflatten(1, (layer.num_groups, -1))
        first = kept.setdefault(layer, groups)
        mean, std = first.mean((2, 3, 4), keepdim=True), first.var((2, 3, 4), correction=0, keepdim=True)
        normed = ((groups - mean) / (std + layer.eps).sqrt()).flatten(1, 2)
        return normed * layer.weight[:, None, None] + layer.bias[:, None, None]

    def tokens(layer: nn.Module, args: tuple[Tensor], out: Tensor) -> Tensor:
        size = round(out.shape[1] ** 0.5)
        where = touched(masks[size], size, 1, 1).flatten()[:, None]
        return torch.where(where, out, kept.setdefault(layer, out))

    kinds = {nn.Conv2d: conv, nn.GroupNorm: norm, BasicTransformerBlock: tokens}
    hooks = [m.register_forward_hook(kinds[type(m)]) for m in unet.modules() if type(m) in kinds]
    unet(x, T, text)
    found = unet(edited, T, text).sample
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("seed", range(4))
def test_the_unet_gives_what_dense_layers_and_a_blend_give(sd15_unet, text: Tensor, seed: int) -> None:
    x, mask = gaussian(2, 4, 16, 16), rectangle(16, 16, seed)
    edited = edit_of(x, mask)
    with cached(sd15_unet) as cache:
        original = sd15_unet(x, T, text).sample
    with sparse_inference(sd15_unet, cache, mask) as active:
        found = sd15_unet(edited, T, text).sample
    assert_close(found, blended(sd15_unet, x, edited, text, mask), rtol=0, atol=1e-5)
    assert (found - original).abs().max() > 0.01
    outside = ~dilate(active.cells((16, 16))[None, None].float(), 4).bool()
    assert torch.equal(found.masked_select(outside), original.masked_select(outside))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_guided_walk_with_a_full_mask_is_the_dense_walk(prediction: str) -> None:
    model = as_model(tiny_pipeline(prediction_type=prediction))
    generator = torch.Generator().manual_seed(0)
    denoise, noise = model.denoiser("a red cat", guidance_scale=5.0), model.noise(1, generator)
    source, painted = model.noise(1, generator), model.noise(1, generator)
    walk = (model.schedule.times(6), model.schedule, 0.6)
    with cached(model.unet) as cache:
        original = sdedit(denoise, source, noise, *walk, eta=0.0)
    assert list(cache.steps) == [t for t in walk[0] if 0 <= t < 600] and len(cache.steps) == 4
    assert torch.equal(original, sdedit(denoise, source, noise, *walk, eta=0.0))
    with sparse_inference(model.unet, cache, torch.ones(1, 1, 8, 8), "own"):
        found = sdedit(denoise, painted, noise, *walk, eta=0.0)
    assert_close(found, sdedit(denoise, painted, noise, *walk, eta=0.0), rtol=0, atol=1e-4)


def test_a_walk_changes_nothing_outside_and_comes_near_inside(tiny: Model) -> None:
    denoise, generator = tiny.denoiser("a red cat"), torch.Generator().manual_seed(0)
    source, noise = tiny.noise(1, generator), tiny.noise(1, generator)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :3, :2] = 1
    painted, walk = edit_of(source, mask), (tiny.schedule.times(6), tiny.schedule, 0.6)
    with cached(tiny.unet) as cache:
        original = sdedit(denoise, source, noise, *walk, eta=0.0)
    with sparse_inference(tiny.unet, cache, mask):
        found = sdedit(denoise, painted, noise, *walk, eta=0.0)
    dense = sdedit(denoise, painted, noise, *walk, eta=0.0)
    assert torch.equal(found[..., 4:, 4:], original[..., 4:, 4:])
    assert (found - dense).abs().max() < 0.2 * (original - dense).abs().max()


def test_step_by_step_one_time_is_kept_at_once(tiny: Model) -> None:
    """As in the authors' code, and with the same result."""
    denoise, schedule, mask = tiny.denoiser("a cat"), tiny.schedule, rectangle(8, 8, 1)
    x = gaussian(1, 4, 8, 8)
    y, times = edit_of(x, mask), schedule.times(3)
    with cached(tiny.unet) as whole:
        original = last(sample(denoise, x, times, schedule))
    with sparse_inference(tiny.unet, whole, mask):
        edited = last(sample(denoise, y, times, schedule))
    for pair in pairwise(times):
        with cached(tiny.unet) as cache:
            x = last(sample(denoise, x, pair, schedule))
        with sparse_inference(tiny.unet, cache, mask):
            y = last(sample(denoise, y, pair, schedule))
        assert cache.bytes == whole.bytes // 3
    assert torch.equal(x, original) and torch.equal(y, edited)


def test_an_edit_of_an_edit(sd15_unet, text: Tensor) -> None:
    """A sparse run can be cached in its turn."""
    x, first, second = gaussian(2, 4, 16, 16), torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    first[..., :3, :3], second[..., -3:, -3:] = 1, 1
    y = edit_of(x, first)
    with cached(sd15_unet) as cache:
        original = sd15_unet(x, T, text).sample
    with sparse_inference(sd15_unet, cache, first), cached(sd15_unet) as after:
        once = sd15_unet(y, T, text).sample
    with sparse_inference(sd15_unet, after, torch.zeros(1, 1, 16, 16)):
        assert torch.equal(sd15_unet(x, T, text).sample, once)
    with sparse_inference(sd15_unet, after, second):
        twice = sd15_unet(edit_of(y, second), T, text).sample
    assert torch.equal(twice[..., :8, :8], once[..., :8, :8])
    assert (once - original)[..., :3, :3].abs().max() > 0.01 < (twice - once)[..., -3:, -3:].abs().max()


def test_layers_below_the_smallest_map_run_dense(sd15_unet, text: Tensor) -> None:
    x = gaussian(2, 4, 16, 16)
    edited, none = edit_of(x, torch.ones(1)), torch.zeros(1, 1, 16, 16)
    with cached(sd15_unet, smallest=17) as cache:
        sd15_unet(x, T, text)
    assert cache.bytes == 0
    with sparse_inference(sd15_unet, cache, none):
        found = sd15_unet(edited, T, text).sample
    assert torch.equal(found, sd15_unet(edited, T, text).sample)
    with cached(sd15_unet, smallest=8) as cache:
        sd15_unet(x, T, text)
    with Operations() as some, sparse_inference(sd15_unet, cache, none):
        sd15_unet(x, T, text)
    assert not any(name.startswith("mid_block") for name in cache.steps[T])
    assert {name.partition(".")[0] for name in cache.steps[T]} == {
        "conv_in", "conv_norm_out", "conv_out", "down_blocks", "up_blocks"
    }  # fmt: skip
    assert some.convolutions > 0 and some.attention > 0


def test_another_prompt_counts_inside_the_mask_alone(sd15_unet, text: Tensor) -> None:
    x, mask = gaussian(2, 4, 16, 16), torch.zeros(1, 1, 16, 16)
    mask[..., :3, :3] = 1
    with cached(sd15_unet) as cache:
        original = sd15_unet(x, T, text).sample
    with sparse_inference(sd15_unet, cache, mask):
        found = sd15_unet(x, T, gaussian(2, 77, 16, seed=5)).sample
    moved = (found - original).abs().amax((0, 1))
    assert moved[:4, :4].max() > 1e-3 and moved[8:].max() == moved[:, 8:].max() == 0


def test_the_union_of_the_rows_masks_counts(sd15_unet, text: Tensor) -> None:
    x, masks = gaussian(2, 4, 16, 16), torch.cat([rectangle(16, 16, 0), rectangle(16, 16, 3)])
    with cached(sd15_unet) as cache:
        sd15_unet(x, T, text)
    found = []
    for mask in (masks, masks.amax(0, keepdim=True)):
        with sparse_inference(sd15_unet, cache, mask):
            found.append(sd15_unet(-x, T, text).sample)
    assert torch.equal(*found)


def test_operations_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 5, 1)).requires_grad_(False)
    x, mask = gaussian(2, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    mask[..., 5:7, 5:7] = 1  # seen by one block of 4 x 4 in each layer
    with Operations() as dense, cached(network) as cache:
        network(x)
    assert dense.total == 2 * 256 * (8 * 27 + 5 * 8)
    with Operations() as sparse, sparse_inference(network, cache, mask):
        network(x)
    assert sparse.total == 2 * 16 * (8 * 27 + 5 * 8)
    mask[..., 4, 4] = 1  # with its halo, the upper left corner of that block is seen by four
    with Operations() as sparse, sparse_inference(network, cache, mask):
        network(x)
    assert sparse.total == 2 * 16 * (4 * 8 * 27 + 5 * 8)


def test_operations_as_torch_counts_them(text: Tensor) -> None:
    sd15_unet, x, mask = unet_like_sd15(), gaussian(2, 4, 16, 16), torch.zeros(1, 1, 16, 16)
    sd15_unet.set_attn_processor(AttnProcessor())  # torch's counter passes over the CPU's fused attention
    mask[..., 5:7, 5:7] = 1
    with Operations() as dense, FlopCounterMode(display=False) as flops, cached(sd15_unet) as cache:
        sd15_unet(x, T, text)
    assert 2 * dense.total == flops.get_total_flops()
    with Operations() as plain:
        sd15_unet(x, T, text)
    assert plain.total == dense.total, "to cache costs no product"
    block = sparse_inference(sd15_unet, cache, mask)
    with Operations() as sparse, FlopCounterMode(display=False) as flops, block:
        sd15_unet(x, T, text)
    assert 2 * sparse.total == flops.get_total_flops() < dense.total
    with Operations() as everything, sparse_inference(sd15_unet, cache, torch.ones(1, 1, 16, 16)):
        sd15_unet(x, T, text)
    assert everything.total == dense.total


def test_only_the_queries_of_self_attention_are_fewer(sd15_unet, text: Tensor) -> None:
    x, mask = gaussian(2, 4, 16, 16), torch.zeros(1, 1, 16, 16)
    mask[..., 5:7, 5:7] = 1
    with cached(sd15_unet) as cache:
        sd15_unet(x, T, text)
    with sparse_inference(sd15_unet, cache, mask), recorded(sd15_unet, lambda site: True) as store:
        sd15_unet(x, T, text)
    shapes = {site.kind: maps[0].shape for site, maps in store.maps.items() if "down_blocks.0" in site.name}
    assert shapes == {"self": (2, 16, 256), "cross": (2, 16, 77)}


def inside(unet: nn.Module) -> list[object]:
    """Everything that a block may leave behind."""
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in unet.modules()]
    return [*hooks, *("forward" in vars(m) for m in unet.modules()), *unet.attn_processors.values()]


def test_everything_is_as_before_after_the_block(sd15_unet, text: Tensor) -> None:
    x, before, names = gaussian(2, 4, 16, 16), inside(sd15_unet), list(sd15_unet.state_dict())
    plain = sd15_unet(x, T, text).sample
    with cached(sd15_unet) as cache:
        assert list(sd15_unet.state_dict()) == names
        assert torch.equal(sd15_unet(x, T, text).sample, plain)
    assert inside(sd15_unet) == before
    for error in (None, KeyboardInterrupt, RuntimeError):
        try:
            with sparse_inference(sd15_unet, cache, rectangle(16, 16, 0)):
                assert inside(sd15_unet) != before and list(sd15_unet.state_dict()) == names
                sd15_unet(x, T, text)
                if error:
                    raise error
        except (KeyboardInterrupt, RuntimeError):
            assert error
        assert inside(sd15_unet) == before
        assert torch.equal(sd15_unet(x, T, text).sample, plain)


def test_a_forward_that_somebody_else_replaced_comes_back(text: Tensor) -> None:
    unet, x = unet_like_sd15(), gaussian(2, 4, 16, 16)
    theirs = unet.conv_in.forward
    unet.conv_in.forward = lambda x: 2 * theirs(x)
    mine = unet.conv_in.forward
    with cached(unet) as cache:
        doubled = unet(x, T, text).sample
    assert unet.conv_in.forward is mine
    with sparse_inference(unet, cache, torch.zeros(1, 1, 16, 16)):
        assert torch.equal(unet(x, T, text).sample, doubled)
    assert unet.conv_in.forward is mine


def test_a_call_that_fails_is_not_cached(sd15_unet, text: Tensor) -> None:
    x = gaussian(2, 4, 16, 16)
    with cached(sd15_unet) as cache:
        with pytest.raises(RuntimeError):
            sd15_unet(x, T, text[..., :3])
        assert cache.steps == {}
        sd15_unet(x, T, text)
    assert list(cache.steps) == [T]


def test_hooks_adapters_other_processors_and_traces_work_inside(tiny: Model) -> None:
    x, text = gaussian(2, 4, 8, 8), tiny.encode_text(["", "a red cat"])
    edited, everything = -x, torch.ones(1, 1, 8, 8)
    fast, attention = traced(tiny, patience=0), tiny.unet.attn_processors
    adapters = low_rank(tiny.unet, lambda name, _: name.endswith(("to_q", "to_k", "to_v", "conv1")), rank=2)
    for seed, adapter in enumerate(adapters.values()):
        adapter.up.weight.data = 0.3 * gaussian(*adapter.up.weight.shape, seed=seed)
    fast.predict(x, T, text)  # traced now
    try:
        tiny.unet.set_attn_processor(AttnProcessor())
        with attached(tiny.unet, adapters):
            dense = tiny.predict(edited, T, text)
            with torch.no_grad(), cached(tiny.unet) as cache:
                fast.predict(x, T, text)
            with (
                torch.no_grad(),
                sparse_inference(tiny.unet, cache, everything, "own"),
                recording({"conv": tiny.unet.conv_in}) as seen,
            ):
                assert_close(fast.predict(edited, T, text), dense, rtol=0, atol=1e-5)
            assert seen["conv"][0].shape == (2, 16, 8, 8)
    finally:
        tiny.unet.set_attn_processor(attention)
    assert (tiny.predict(edited, T, text) - dense).abs().max() > 1e-3, "the adapters did something"


def test_a_decoder_can_be_sparse_too(tiny: Model) -> None:
    latents, mask = gaussian(1, 4, 8, 8), torch.zeros(1, 1, 8, 8)
    mask[..., 2:4, 2:4] = 1
    edited, decoder = edit_of(latents, mask), tiny.vae.decoder
    with cached(decoder) as cache:
        original = tiny.decode(latents)
    assert list(cache.steps) == [None]
    with sparse_inference(decoder, cache, torch.ones(1, 1, 8, 8), "own"):
        found = tiny.decode(edited)
    assert_close(found, tiny.decode(edited), rtol=0, atol=1e-5)
    with sparse_inference(decoder, cache, torch.zeros(1, 1, 8, 8)):
        assert torch.equal(tiny.decode(edited), original)


def test_gligen_s_blocks_stay_dense(text: Tensor) -> None:
    unet, x = unet_like_sd15(attention_type="gated"), gaussian(2, 4, 16, 16)
    with cached(unet) as cache:
        unet(x, T, text)
    kinds = {type(unet.get_submodule(name)) for name in cache.steps[T]}
    assert kinds == {nn.Conv2d, nn.GroupNorm}


def test_bad_input_is_refused(tiny: Model, text: Tensor) -> None:
    unet, x, words = tiny.unet, gaussian(2, 4, 8, 8), text
    mask, before = torch.ones(1, 1, 8, 8), inside(tiny.unet)
    with cached(unet) as cache:
        unet(x, T, words)
        with pytest.raises(ValueError, match="time 500 was cached already"):
            unet(x, T, words)
        with pytest.raises(ValueError, match=r"one time, not at \[1, 2\]"):
            unet(x, torch.tensor([1, 2]), words)
    refusals = {
        "another network's": (tiny.vae.decoder, cache, mask, {}),
        "0 and 1": (unet, cache, 0.5 * mask, {}),
        "the mask must be": (unet, cache, mask[0], {}),
        "statistics must be one of": (unet, cache, mask, {"statistics": "none"}),
        "got 0 and 1": (unet, cache, mask, {"block": 0}),
        "got 4 and -1": (unet, cache, mask, {"margin": -1}),
    }
    for rule, (network, known, where, options) in refusals.items():
        with pytest.raises(ValueError, match=rule), sparse_inference(network, known, where, **options):
            pass
    for bad_mask, bad_x, t, rule in (
        (mask, x, 3, r"time 3 was not cached, only \[500\]"),
        (mask, x[:1], T, "must agree"),
        (mask[..., :4], x, T, "must agree"),
    ):
        with sparse_inference(unet, cache, bad_mask), pytest.raises(ValueError, match=rule):
            unet(bad_x, t, words[: len(bad_x)])
    assert inside(unet) == before


def test_fused_attention_is_refused(text: Tensor) -> None:
    unet = unet_like_sd15()
    unet.fuse_qkv_projections()
    with pytest.raises(ValueError, match="unfuse_qkv_projections"), cached(unet):
        pass
    assert not any("forward" in vars(m) for m in unet.modules())


@pytest.mark.parametrize(
    ("edited", "options", "rule"),
    [
        (torch.zeros(1, 3, 4, 5), {}, "one shape"),
        (torch.zeros(3, 4, 4), {}, "one shape"),
        (torch.zeros(1, 3, 4, 4), {"epsilon": -1}, "0 or more"),
        (torch.zeros(1, 3, 4, 4), {"epsilon": float("nan")}, "0 or more"),
        (torch.zeros(1, 3, 4, 4), {"dilation": -1}, "0 or more"),
        (torch.zeros(1, 3, 4, 4), {"dilation": 1.5}, "0 or more"),
    ],
)
def test_a_difference_of_what_cannot_be_compared_is_refused(edited: Tensor, options, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        difference_mask(torch.zeros(1, 3, 4, 4), edited, **options)
