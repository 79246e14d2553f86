"""The benchmarks of chapter 4 count the calls that a method needs, and agree with their rivals."""

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks import attention, job
from benchmarks.attention import sd15_model
from course.core.model import Model
from tests.core.tiny import as_model, tiny_pipeline, word_tokenizer

CALLS = {  # and rows
    "Prompt-to-Prompt, a word swapped": (5, 5 * 4),
    "Prompt-to-Prompt with local blend": (5, 5 * 4),
    "Plug-and-Play, inversion included": (5 + 4 + 5, 5 + 4 + 5 * 2),  # 0.8 of the steps ask the guide, too
    "InstructPix2Pix, two scales": (5, 5 * 3),
    "TIME, the edit and a guided walk": (5, 5 * 2),
    "TIME, the edit of SD 1.5's shape alone": (0, 0),
}


@pytest.fixture(scope="module")
def tiny() -> Model:
    return as_model(tiny_pipeline())


@pytest.fixture(scope="module")
def edited(tiny: Model) -> Model:
    """As narrow as the tiny model, with the 77 tokens that TIME's pipeline counts on."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = tiny.text_encoder.config.to_dict() | {"max_position_embeddings": 77}
        text_encoder = CLIPTextModel(CLIPTextConfig(**sizes))
    return replace(tiny, unet=deepcopy(tiny.unet), text_encoder=text_encoder, tokenizer=word_tokenizer(77))


@pytest.fixture(scope="module")
def narrow(edited: Model) -> Iterator[None]:
    """TIME's pipeline takes seconds for Stable Diffusion's widths."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "sd15_model", lambda width: edited)
        yield


@pytest.fixture(scope="module")
def rows(tiny: Model, narrow: None) -> list[dict]:
    return attention.measure(tiny, steps=5, rounds=1)


def test_each_method_asks_as_often_as_it_needs_to(rows: list[dict]) -> None:
    assert {row["job"]: (row["calls"], row["rows"]) for row in rows} == CALLS
    assert all(row["walk_ms"] > 0 < row.get("bare_ms", 1) for row in rows)
    assert [row["job"] for row in rows if "bare_ms" not in row] == ["TIME, the edit of SD 1.5's shape alone"]


def test_rivals_come_to_the_same(rows: list[dict]) -> None:
    found = {row["rival"]: row["difference"] for row in rows if "rival" in row}
    assert set(found) == {"StableDiffusionInstructPix2PixPipeline", "StableDiffusionModelEditingPipeline"}
    assert found["StableDiffusionInstructPix2PixPipeline"] <= 1e-4
    assert found["StableDiffusionModelEditingPipeline"] <= 1e-3  # its float32; in float64 see below


def test_instruct_pix2pix_sees_the_picture_and_the_edits_leave_no_trace(tiny: Model, narrow: None) -> None:
    before = {name: weight.clone() for name, weight in tiny.unet.state_dict().items()}
    there = {each.name: each for each in attention.jobs(tiny, 3)}
    with job.recorded(tiny.unet) as calls:
        for each in there.values():
            each.walk()
    # InstructPix2Pix asks a network of its own, and the edit of the weights alone asks none.
    assert [len(args[0]) for args, _, _ in calls] == [4] * 6 + [1] * 3 + [1, 2] * 2 + [2] + [2] * 3
    assert all(torch.equal(before[name], weight) for name, weight in tiny.unet.state_dict().items())
    unet: Any = there["InstructPix2Pix, two scales"].unet
    with job.recorded(unet) as calls:
        there["InstructPix2Pix, two scales"].walk()
    both, image, none = calls[0][0][0].chunk(3)
    assert torch.equal(both, image) and image[:, 4:].abs().max() > 0 and none[:, 4:].abs().max() == 0
    seen, blind = unet.conv_in(image), unet.conv_in(none)
    assert (seen - blind).abs().max() > 1e-2


def test_in_float64_the_peer_of_time_finds_the_same_and_both_leave_the_layers_as_they_were(
    edited: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "eye", partial(torch.eye, dtype=torch.float64))  # its other numbers follow
    model = replace(
        edited, unet=deepcopy(edited.unet).double(), text_encoder=deepcopy(edited.text_encoder).double()
    )
    layers = [layer for name, layer in model.unet.named_modules() if name.endswith(".attn2")]
    own = [(layer.to_v, layer.to_k) for layer in layers]
    weight = layers[-1].to_k.weight.clone()
    each = attention._edited(model)
    assert each.rival is not None
    found = []
    for edit in (each.walk, each.rival[1], each.rival[1], each.walk):
        found.append(edit())
        assert all(v is layer.to_v and k is layer.to_k for layer, (v, k) in zip(layers, own, strict=True))
        assert torch.equal(layers[-1].to_k.weight, weight)
    assert (found[0] - weight).abs().max() > 1e-2
    assert all((other - found[0]).abs().max() < 1e-8 for other in found[1:])


def test_what_time_edits_alone_has_the_shape_of_stable_diffusion_1_5() -> None:
    model = sd15_model(0.05)
    layers = [layer for name, layer in model.unet.named_modules() if name.endswith((".to_k", ".to_v"))]
    assert [layer.in_features for layer in layers].count(768) == 32  # K and V of 16 layers
    assert model.encode_text(attention.IMPLYING).shape == (1, 77, 768)
    assert model.text_encoder.config.num_hidden_layers == 1


def test_the_command_prints_a_table_and_writes_the_figures(
    tiny: Model,
    narrow: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(job, "random_model", lambda: tiny)
    page = tmp_path / "benchmarks.md"
    page.write_text("before\n<!-- begin attention -->\nold\n<!-- end attention -->\nafter\n")
    arguments = ["--tiny", "--rounds", "1", "--steps", "2", "--markdown", str(page)]
    attention.main([*arguments, "--json", str(tmp_path / "attention.json")])
    found = json.loads((tmp_path / "attention.json").read_text("utf8"))
    assert [row["job"] for row in found["attention"]] == list(CALLS) and found["machine"]["steps"] == 2
    table = capsys.readouterr().out.strip()
    lines = table.splitlines()
    assert len(lines) == 2 + len(CALLS) and {line.count("|") for line in lines} == {10}
    alone = lines[-1].split(" | ")
    assert alone[1:3] == ["0", "-"] and alone[4] == "-" and alone[5] == "StableDiffusionModelEditingPipeline"
    assert table in page.read_text() and "old" not in page.read_text()
