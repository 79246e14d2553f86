"""Multiply-adds, counted by hand and by torch's own counter."""

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from course.core.model import Model
from course.core.operations import Operations
from tests.core.tiny import as_model, tiny_pipeline


def parts(work: Operations) -> list[int]:
    return [work.convolutions, work.linear, work.attention, work.total]


def test_each_kind_is_counted_as_by_hand() -> None:
    with Operations() as work:
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)(torch.ones(5, 4, 8, 7))
    assert work.convolutions == work.total == 5 * 6 * (4 * 4) * (2 * 3 * 3)
    with Operations() as work:
        nn.ConvTranspose2d(4, 6, 3)(torch.ones(1, 4, 8, 8))
    assert work.convolutions == work.total == 4 * 8 * 8 * 6 * 9
    with Operations() as work:
        nn.Linear(3, 7)(torch.ones(2, 5, 3))
        nn.Linear(3, 7, bias=False)(torch.ones(2, 5, 3))
    assert work.linear == work.total == 2 * (10 * 3 * 7)
    query, key = torch.ones(1, 2, 3, 4), torch.ones(1, 2, 9, 4)
    with Operations() as work:
        F.scaled_dot_product_attention(query, key, key)
    assert work.attention == work.total == 2 * (2 * 3 * 9 * 4)
    with Operations() as work:
        query @ key.mT
    assert work.attention == work.total == 2 * 3 * 9 * 4


def test_cell_by_cell_work_costs_nothing_and_counting_changes_nothing() -> None:
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    layers = nn.Sequential(nn.GroupNorm(2, 4), nn.SiLU(), nn.Upsample(scale_factor=2))
    with Operations() as work:
        counted = layers(x)
    assert work.total == 0
    assert torch.equal(counted, layers(x))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_a_network_is_counted_as_torch_counts_it(mode) -> None:
    model = as_model(tiny_pipeline())
    x, text = model.noise(2), model.encode_text(["a cat", ""])
    with mode(), Operations() as fused:
        model.predict(x, 500, text)
    # Without fused attention, which on a CPU torch's counter passes over.
    model.unet.set_attn_processor(AttnProcessor())
    with mode(), Operations() as work, FlopCounterMode(display=False) as flops:
        model.predict(x, 500, text)
    assert 2 * work.total == flops.get_total_flops()
    assert parts(work) == parts(fused) and min(parts(work)) > 0


def test_a_network_without_memory_is_counted_alike(tiny: Model) -> None:
    x, text = tiny.noise(2), tiny.encode_text(["a cat", ""])
    with Operations() as real:
        tiny.predict(x, 500, text)
    with torch.device("meta"):
        ghost = type(tiny.unet).from_config(tiny.unet.config)
    with Operations() as counted:
        ghost(x.to("meta"), 500, text.to("meta"))
    assert parts(counted) == parts(real)
