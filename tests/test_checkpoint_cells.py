"""The lessons' cells for real checkpoints, run on one: of Stable Diffusion 1.5's shape, small, untrained.

Of the cells before it only what a checkpoint's cell needs is run, and at most four steps of a walk are taken.
"""

import ast
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from matplotlib import pyplot
from transformers import CLIPTextConfig, CLIPTextModel

from course.core.schedule import Schedule
from tests.core.test_words import byte_pair
from tests.core.tiny import assembled
from tools.notebooks import ROOT, lessons

MARK = "COURSE_CHECKPOINT"
CODERS = (("down", "DownEn"), ("up", "UpDe"))
# What a checkpoint's U-Net reads beside the noisy latents: nothing, a picture, a mask and a picture.
CHANNELS = {"3_instruct_pix2pix": 8, "3_palette": 9}


def code_of(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


WITH_CHECKPOINT = [path for path in lessons() if any(MARK in source for source in code_of(path))]


def bound(node: ast.AST) -> set[str]:
    """The names that a statement gives a value."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    return {
        each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    }


def read(node: ast.AST) -> set[str]:
    """The names that it looks up outside of itself."""
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Load) else set()
    found = set().union(*(read(child) for child in ast.iter_child_nodes(node)))
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        inside = node.body if isinstance(node.body, list) else [node.body]
        return (
            found
            - {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}
            - set().union(*(bound(each) for each in inside))
        )
    if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        return found - set().union(*(bound(each.target) for each in node.generators))
    return found


def statements_for(sources: list[str]) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """Of the cells before the checkpoint's, the statements that it needs; and its own."""
    at = next(i for i, source in enumerate(sources) if MARK in source)
    own = ast.parse(sources[at]).body
    wanted = set().union(*(read(each) for each in own)) - set().union(*(bound(each) for each in own))
    kept: list[ast.stmt] = []
    for statement in reversed([each for source in sources[:at] for each in ast.parse(source).body]):
        if given := bound(statement) & wanted:
            wanted = (wanted - given) | read(statement)
            kept.insert(0, statement)
    return kept, own


def sd_checkpoint(folder: Path, channels: int) -> Path:
    """Pictures of 64 pixels, latents of 8, four levels, 77 tokens of CLIP's own kind."""
    tokenizer = byte_pair()
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    levels: dict[str, Any] = {"block_out_channels": (8, 16, 16, 16), "norm_num_groups": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text_encoder = CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), **sizes, **special))
        unet = UNet2DConditionModel(8, channels, cross_attention_dim=16, attention_head_dim=2, **levels)
        blocks = {f"{way}_block_types": (f"{part}coderBlock2D",) * 4 for way, part in CODERS}
        vae = AutoencoderKL(latent_channels=4, sample_size=64, **blocks, **levels)
    assembled(unet, vae, text_encoder, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Path]]:
    folder = tmp_path_factory.mktemp("checkpoints")
    yield {channels: sd_checkpoint(folder / str(channels), channels) for channels in (4, 8, 9)}


def test_there_are_such_cells():
    assert len(WITH_CHECKPOINT) >= 18


@pytest.mark.parametrize("path", WITH_CHECKPOINT, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_checkpoint_s_cell_runs_on_one(path, checkpoints, monkeypatch, capsys):
    monkeypatch.setenv(MARK, str(checkpoints[CHANNELS.get(path.stem, 4)]))
    shown: list[Any] = []
    space = {"__name__": "__main__", "display": shown.append}
    needed, (*body, end) = statements_for(code_of(path))
    times = Schedule.times
    monkeypatch.setattr(Schedule, "times", lambda schedule, steps: times(schedule, min(steps, 4)))
    exec(compile(ast.Module(needed, []), str(path), "exec"), space)
    if "imagic" in space:
        space["imagic"] = partial(space["imagic"], embedding_steps=2, model_steps=2)
    exec(compile(ast.Module(body, []), str(path), "exec"), space)
    if isinstance(end, ast.Expr):
        shown.append(eval(compile(ast.Expression(end.value), str(path), "eval"), space))
    else:
        exec(compile(ast.Module([end], []), str(path), "exec"), space)
    pyplot.close("all")
    printed = capsys.readouterr().out
    assert "left out" not in printed and "nothing is run" not in printed
    assert [each for each in shown if each is not None] or printed
