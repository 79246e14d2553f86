"""Low-rank adapters: equal to peft's on the same weights, nothing at first, and gone when the block ends."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.testing import assert_close

from course.core.adapter_files import load_adapters, save_adapters
from course.core.adapters import LowRank, attached, low_rank, merged

LAYERS = ["conv", "strided", "attn.to_q", "attn.to_k"]


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.strided = nn.Conv2d(8, 6, (3, 2), stride=2, padding=(1, 0), dilation=(1, 2), bias=False)
        self.norm = nn.GroupNorm(2, 6)
        self.attn = nn.ModuleDict({"to_q": nn.Linear(6, 10), "to_k": nn.Linear(6, 10, bias=False)})

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.strided(self.conv(x).tanh())).flatten(2).mT
        return self.attn["to_q"](h) * self.attn["to_k"](h).sigmoid()


@pytest.fixture
def model() -> Tiny:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Tiny().requires_grad_(False)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def seeded(seed: int = 2) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained(model: nn.Module, rank: int = 3, scale: float = 0.7, seed: int = 2) -> dict[str, LowRank]:
    """Adapters whose `up` is no longer zero."""
    adapters = low_rank(model, lambda name, layer: True, rank, scale, generator=seeded(seed))
    for adapter in adapters.values():
        adapter.up.weight.data.normal_(generator=seeded(seed + 1))
    return adapters


def snapshot(model: nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_a_new_adapter_changes_nothing(model: Tiny, x: Tensor) -> None:
    expected, before = model(x), snapshot(model)
    adapters = low_rank(model, lambda name, layer: True, 2, generator=seeded())
    assert list(adapters) == LAYERS
    with attached(model, adapters):
        assert torch.equal(model(x), expected)
    with merged(model, adapters):
        assert torch.equal(model(x), expected)
    assert snapshot(model) == before


def test_where_sees_names_and_layers(model: Tiny) -> None:
    assert list(low_rank(model, lambda name, layer: name.endswith("to_k"), 2)) == ["attn.to_k"]
    assert list(low_rank(model, lambda name, layer: isinstance(layer, nn.Conv2d), 2)) == ["conv", "strided"]
    with pytest.raises(ValueError, match="none of the 6 modules of this Tiny"):
        low_rank(model, lambda name, layer: name == "norm", 2)


@pytest.mark.parametrize("rank", [1, 4])
@pytest.mark.parametrize("alpha", [1, 6])
def test_parity_with_peft(model: Tiny, x: Tensor, rank: int, alpha: int) -> None:
    adapters = trained(model, rank, alpha / rank)
    with attached(model, adapters):
        ours = model(x)
    plain = model(x)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=["conv", "strided", "to_q", "to_k"])
    peer = inject_adapter_in_model(config, model).eval()
    for name, adapter in adapters.items():
        layer = peer.get_submodule(name)
        if name == "strided":  # peft leaves out the dilation
            layer.lora_A["default"].dilation = layer.base_layer.dilation
        layer.lora_A["default"].weight.data.copy_(adapter.down.weight.data)
        layer.lora_B["default"].weight.data.copy_(adapter.up.weight.data)
        assert_close(layer.get_delta_weight("default"), adapter.delta(), atol=1e-5, rtol=0)
    assert_close(ours, peer(x), atol=1e-5, rtol=0)
    assert (ours - plain).abs().max() > 0.1


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, -1.0])
def test_merged_equals_attached_and_leaves_the_exact_bytes(model: Tiny, x: Tensor, strength: float) -> None:
    adapters, before, plain = trained(model), snapshot(model), model(x)
    with attached(model, adapters, strength):
        beside = model(x)
        assert snapshot(model) == before
    with merged(model, adapters, strength):
        within = model(x)
    assert_close(within, beside, atol=1e-5, rtol=0)
    assert torch.allclose(within, plain, atol=1e-3) == (strength == 0)
    assert snapshot(model) == before and hooks(model) == 0
    assert torch.equal(model(x), plain)


@pytest.mark.parametrize("block", [attached, merged])
def test_an_error_in_the_block_puts_everything_back(model: Tiny, x: Tensor, block: Any) -> None:
    before = snapshot(model)
    with pytest.raises(KeyError), block(model, trained(model)):
        raise KeyError
    assert snapshot(model) == before and hooks(model) == 0


def test_blocks_add_up_in_any_order(model: Tiny, x: Tensor) -> None:
    a, b = trained(model, seed=3), trained(model, seed=5)
    with attached(model, a), attached(model, b):
        first = model(x)
    with merged(model, b), attached(model, a):
        second = model(x)
    before = snapshot(model)
    with merged(model, a), merged(model, b):
        third = model(x)
    assert_close(first, second, atol=1e-5, rtol=0)
    assert_close(first, third, atol=1e-5, rtol=0)
    assert snapshot(model) == before


@pytest.mark.parametrize("name", LAYERS)
def test_delta_is_scale_times_up_after_down(model: Tiny, name: str) -> None:
    adapter = trained(model)[name]
    up, down = adapter.up.weight.flatten(1), adapter.down.weight
    by_hand = sum(0.7 * up[:, r, None] * down[r].flatten()[None] for r in range(3))
    assert_close(adapter.delta().flatten(1), by_hand)
    assert torch.linalg.matrix_rank(adapter.delta().detach().flatten(1)) == 3


def test_gradients_reach_the_adapters_alone(model: Tiny, x: Tensor) -> None:
    adapters = trained(model)
    with attached(model, adapters):
        model(x).square().sum().backward()
    for adapter in adapters.values():
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in adapter.parameters())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_adapters_of_a_model_in_another_precision(model: Tiny, x: Tensor, dtype: torch.dtype) -> None:
    model, x = model.to(dtype), x.to(dtype)
    adapters = trained(model)
    wide = torch.promote_types(dtype, torch.float32)
    assert {p.dtype for a in adapters.values() for p in a.parameters()} == {wide}
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with attached(model, adapters):
        beside = model(x)
    with merged(model, adapters):
        within = model(x)
    assert beside.dtype == within.dtype == dtype
    assert_close(within, beside, atol=1e-9 if dtype == torch.float64 else 0.3, rtol=0.1)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_a_seed_gives_one_adapter_and_the_global_generator_is_left_alone(model: Tiny) -> None:
    state = torch.get_rng_state()
    first, second = (LowRank(model.conv, 4, generator=seeded(9)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.down.weight, second.down.weight)
    bound = 1 / (3 * 3 * 3) ** 0.5
    assert 0.8 * bound < first.down.weight.abs().max() <= bound


def test_what_cannot_be_adapted_is_refused(model: Tiny) -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        LowRank(model.conv, 0)
    with pytest.raises(ValueError, match="ungrouped"):
        LowRank(nn.Conv2d(4, 4, 3, groups=2), 1)
    with pytest.raises(ValueError, match="not GroupNorm"):
        LowRank(model.norm, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("block", [attached, merged])
def test_adapters_of_another_model_are_refused_before_anything_changes(model: Tiny, block: Any) -> None:
    before, fits = snapshot(model), trained(model)["conv"]
    for wrong, message in (
        ({}, "no adapters were given"),
        ({"conv": fits, "attn.to_v": fits}, "attn.to_v: this Tiny has no such layer"),
        ({"conv": fits, "attn": fits}, "attn: it is a ModuleDict"),
        ({"conv": fits, "strided": fits}, r"strided is for a weight of shape \(8, 3, 3, 3\)"),
    ):
        with pytest.raises(ValueError, match=message), block(model, wrong):
            pass
        assert snapshot(model) == before and hooks(model) == 0


def test_a_file_holds_the_adapters_alone_and_gives_them_back(model: Tiny, x: Tensor, tmp_path: Path) -> None:
    path, adapters = tmp_path / "lora.safetensors", trained(model)
    with attached(model, adapters):
        expected = model(x)
    save_adapters(path, adapters)
    assert [p.name for p in tmp_path.iterdir()] == ["lora.safetensors"]
    assert set(load_file(path)) == {f"{name}.{part}.weight" for name in LAYERS for part in ("down", "up")}
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["adapters"])["attn.to_q"] == {"rank": 3, "scale": 0.7}
    state = torch.get_rng_state()
    back = load_adapters(path, model)
    assert torch.equal(torch.get_rng_state(), state)
    with attached(model, back):
        assert torch.equal(model(x), expected)


def test_a_write_that_fails_leaves_the_old_file(
    model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lora.safetensors"
    save_adapters(path, trained(model))
    before = path.read_bytes()

    def half(tensors: Any, filename: Path, metadata: Any) -> None:
        filename.write_bytes(b"half a file")
        raise OSError("disk full")

    monkeypatch.setattr("course.core.adapter_files.save_file", half)
    with pytest.raises(OSError, match="disk full"):
        save_adapters(path, trained(model, rank=1))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["lora.safetensors"]
    with pytest.raises(ValueError, match="no adapters to save"):
        save_adapters(path, {})


def test_a_file_for_another_model_is_refused(model: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    save_adapters(path, trained(model))
    model.attn["to_q"] = nn.Linear(6, 11)
    with pytest.raises(ValueError, match=r"the adapter of attn\.to_q does not fit Linear\(in_features=6"):
        load_adapters(path, model)
    del model.attn["to_q"]
    with pytest.raises(ValueError, match=r"attn\.to_q: this Tiny has no such layer"):
        load_adapters(path, model)


def test_other_and_damaged_files_are_refused(model: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    with pytest.raises(FileNotFoundError, match=r"no adapter file at .*lora\.safetensors"):
        load_adapters(path, model)
    save_adapters(path, trained(model))
    whole, tensors = path.read_bytes(), load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    for size in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="not a whole safetensors file"):
            load_adapters(path, model)

    def refused(message: str, tensors: dict[str, Tensor], metadata: dict[str, str] | None) -> None:
        save_file(tensors, path, metadata=metadata)
        with pytest.raises(ValueError, match=message):
            load_adapters(path, model)

    refused("its format is None", tensors, None)
    refused("its format is 'pt'", tensors, {"format": "pt"})
    refused("lists no adapters", tensors, {"format": metadata["format"]})
    for broken in ("[", "3", '["conv"]'):
        refused("lists no adapters", tensors, {**metadata, "adapters": broken})
    refused("adapter of conv does not fit", tensors, {**metadata, "adapters": '{"conv": 3}'})
    refused("adapter of conv does not fit", tensors, {**metadata, "adapters": '{"conv": {"rank": 3}}'})
    refused("belong to no adapter.*conv", tensors, {**metadata, "adapters": "{}"})
    refused(
        "adapter of conv does not fit", {k: v for k, v in tensors.items() if k != "conv.up.weight"}, metadata
    )
    refused(r"belong to no adapter: \['x'\]", {**tensors, "x": torch.zeros(1)}, metadata)
