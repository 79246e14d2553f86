"""Pairs of pictures, before and after an edit, with the instruction: drawn by a model, or the world's own.

Drawing is InstructPix2Pix's recipe (Brooks et al. 2023, arXiv:2211.09800, section 3.1): the model draws the
pictures of two captions with Prompt-to-Prompt, and CLIP sorts out the bad pairs. What GPT-3 writes there,
caption, instruction and edited caption, the world's grammar writes here.
"""

import os
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from course.attention.instruct_pix2pix import encode_image
from course.attention.prompt_to_prompt import prompt_to_prompt, refine
from course.core.clip import Clip
from course.core.model import Model
from course.train.data import as_images
from course.train.loop import generator_for
from course.train.text import tokens
from course.world.scene import Dice, is_held_out
from course.world.tasks import EDITS, EditTask, edit_task

SEEDS = {"drawn": 9, "true": 10}  # of each network's triples, noises and times
KINDS = tuple(kind for kind in EDITS if kind != "move")  # no caption tells a move
SHARD = 18  # pairs drawn together: they share a guidance scale and a share of self-attention
STEPS = 8  # 10 drew no better pairs
SCALES = (3.0, 6.0)  # around 4, the model's best; the paper's 7.5 to 15 begin at Stable Diffusion's usual one
# Each lets 95 % of the world's own pairs pass. For the CLIP of the paper it is 0.2, 0.75 and 0.2: ours, of a
# small world, is surer of texts and of directions, and tells colours more apart than large models do.
LEAST = {"caption": 0.83, "likeness": 0.2, "direction": 0.45}

Pairs = dict[str, Tensor]  # before, after: latents [n c h w]; tokens: int [n tokens]; kind: int [n]


def training_tasks(seed: int, shard: int, n: int) -> list[EditTask]:
    """n edits of KINDS in turn, the same each time; no scene in them is held out of training.

    Raises ValueError for a seed outside 0..999: the others belong to tests and lessons.
    """
    if not 0 <= seed < 1000:
        raise ValueError(f"training uses seeds 0..999, got {seed}: the others belong to tests and lessons")
    dice = Dice(seed * 1_000_000_000 + shard + 1_000_000)
    found: list[EditTask] = []
    while len(found) < n:
        task = edit_task(KINDS[len(found) % len(KINDS)], dice)
        if not (is_held_out(task.source) or is_held_out(task.target)):
            found.append(task)
    return found


@torch.no_grad()
def clip_scores(clip: Clip, before: Tensor, after: Tensor, tasks: list[EditTask]) -> dict[str, Tensor]:
    """What CLIP says of pairs of pictures, cosines [n], by the names of LEAST.

    caption: of picture and caption, the worse of two; likeness: of the two pictures; direction: of the change
    of picture and the change of caption (Gal et al. 2021, arXiv:2108.00946).
    """
    images = [clip.embed_images(each) for each in (before, after)]
    texts = [
        clip.embed_text([getattr(t, name) for t in tasks]) for name in ("source_prompt", "target_prompt")
    ]
    fits = [F.cosine_similarity(image, text) for image, text in zip(images, texts, strict=True)]
    return {
        "caption": torch.minimum(*fits),
        "likeness": F.cosine_similarity(images[0], images[1]),
        "direction": F.cosine_similarity(images[1] - images[0], texts[1] - texts[0]),
    }


def draw_pairs(model: Model, tasks: list[EditTask], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The pictures before and after, [n 3 H W] each, that the model draws of the tasks' captions.

    As in the paper's code, of Prompt-to-Prompt only the self-attention is shared, for 0.1 to 0.9 of the walk.
    """
    share, scale = torch.rand(2, generator=generator).tolist()
    edits = [refine(model.tokenizer, task.source_prompt, task.target_prompt) for task in tasks]
    prompts = [*(task.source_prompt for task in tasks), *(task.target_prompt for task in tasks)]
    denoise = model.denoiser(prompts, guidance_scale=SCALES[0] + (SCALES[1] - SCALES[0]) * scale)
    latents = prompt_to_prompt(
        model.unet,
        denoise,
        model.noise(len(tasks), generator),
        edits,
        model.schedule.times(STEPS),
        model.schedule,
        cross=0.0,
        self_attention=0.1 + 0.8 * share,
    )
    before, after = model.decode(latents).chunk(2)
    return before, after


def encoded(model: Model, before: Tensor, after: Tensor, tasks: list[EditTask]) -> Pairs:
    """What a network learns from: the pictures as latents, in half precision, and the instructions."""
    pictures = {"before": encode_image(model.vae, before), "after": model.encode(after)}
    return {name: value.half().cpu() for name, value in pictures.items()} | {
        "tokens": tokens(model.tokenizer, [task.instruction for task in tasks]),
        "kind": torch.tensor([KINDS.index(task.kind) for task in tasks]),
    }


def drawn_shard(folder: Path, model: Model, clip: Clip, shard: int) -> Pairs:
    """The pairs of a shard, good and bad, with their scores: drawn once, then read from its file."""
    path = folder / f"{shard:05}.safetensors"
    if not path.exists():
        tasks = training_tasks(SEEDS["drawn"], shard, SHARD)
        pictures = draw_pairs(model, tasks, generator_for(SEEDS["drawn"], shard))
        aside = path.with_suffix(f".{os.getpid()}.part")  # processes that draw the same do not meet
        save_file(encoded(model, *pictures, tasks) | clip_scores(clip, *pictures, tasks), aside)
        aside.replace(path)
    return load_file(path)


def kept(pairs: Pairs) -> Tensor:
    """Which pairs CLIP lets pass, bool [n]."""
    return torch.stack([pairs[name] >= least for name, least in LEAST.items()]).all(0)


def drawn_pairs(folder: Path, model: Model, clip: Clip, pairs: int) -> tuple[Pairs, dict[str, Any]]:
    """So many pairs that passed, and how many of each kind were drawn and kept on the way."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Pairs] = []
    drawn: Counter[str] = Counter()
    for shard in count():
        each = drawn_shard(folder, model, clip, shard)
        drawn.update(KINDS[i] for i in each["kind"].tolist())
        found.append({name: value[kept(each)] for name, value in each.items()})
        have = sum(len(part["kind"]) for part in found)
        if shard % 10 == 0 or have >= pairs:
            print(f"instruct_pix2pix  {have} of {pairs} pairs kept, {drawn.total()} drawn", flush=True)
        if have >= pairs:
            break
        if drawn.total() > 10 * pairs:
            raise RuntimeError(
                f"CLIP lets {have} of {drawn.total()} pairs pass: lower LEAST, or look at them"
            )
    passed = Counter(KINDS[i] for part in found for i in part["kind"].tolist())
    told = {"drawn": {kind: drawn[kind] for kind in KINDS}, "kept": {kind: passed[kind] for kind in KINDS}}
    return _joined(found, pairs), told


def true_pairs(model: Model, pairs: int) -> Pairs:
    """So many of the world's own pairs."""
    found = []
    for shard in range(-(-pairs // SHARD)):
        tasks = training_tasks(SEEDS["true"], shard, SHARD)
        before, after = as_images([task.source for task in tasks]), as_images([task.target for task in tasks])
        found.append(encoded(model, before, after, tasks))
    return _joined(found, pairs)


def _joined(parts: list[Pairs], n: int) -> Pairs:
    return {name: torch.cat([part[name] for part in parts])[:n] for name in parts[0]}
