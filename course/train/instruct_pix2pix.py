"""Two networks that follow instructions; they differ in the pairs of pictures that they learn from.

`drawn` is InstructPix2Pix's recipe (Brooks et al. 2023, arXiv:2211.09800, section 3): the model itself draws
the pictures of two captions with Prompt-to-Prompt, CLIP sorts out the bad pairs, and a copy of the model that
also sees the picture before learns to draw the one after. What GPT-3 writes there, caption, instruction and
edited caption, the world's grammar writes here. `true` learns likewise, from as many exact pairs.
"""

import json
import os
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from course.attention.instruct_pix2pix import drop, encode_image, widen
from course.attention.prompt_to_prompt import prompt_to_prompt, refine
from course.core.clip import Clip, load_clip
from course.core.model import Model, load
from course.train.data import as_images
from course.train.denoiser import v_loss
from course.train.files import save_networks
from course.train.loop import Run, generator_for
from course.train.muon import muon_for
from course.world.scene import Dice, is_held_out
from course.world.tasks import EDITS, EditTask, edit_task
from course.world.vocabulary import check

SEEDS = {"drawn": 9, "true": 10}  # of each network's triples, noises and times
STAGES = {"instruct_pix2pix": "drawn", "instruct_pix2pix_true": "true"}
KINDS = tuple(kind for kind in EDITS if kind != "move")  # no caption tells a move
PAIRS = 800  # to learn from, for each network
SHARD = 18  # pairs drawn together: they share a guidance scale and a share of self-attention
STEPS = 8  # 10 drew no better pairs
SCALES = (3.0, 6.0)  # around 4, the model's best; the paper's 7.5 to 15 begin at Stable Diffusion's usual one
# Each lets 95 % of the world's own pairs pass. For the CLIP of the paper it is 0.2, 0.75 and 0.2: ours, of a
# small world, is surer of texts and of directions, and tells colours more apart than large models do.
LEAST = {"caption": 0.83, "likeness": 0.2, "direction": 0.45}
ENDS = ("unet.conv_in", "unet.conv_out", "unet.time_embedding")  # Adam trains these
WEIGHTS = Path(__file__).parents[1] / "weights" / "instruct_pix2pix"

Pairs = dict[str, Tensor]  # before, after: latents [n c h w]; text: embeddings [n tokens dim]; kind: int [n]


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
    kinds = torch.tensor([KINDS.index(task.kind) for task in tasks])
    pictures = {"before": encode_image(model.vae, before), "after": model.encode(after)}
    text = model.encode_text([task.instruction for task in tasks])
    return {name: value.half().cpu() for name, value in {**pictures, "text": text}.items()} | {"kind": kinds}


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


class InstructLoss(nn.Module):
    """`v_loss` of the picture after, given the one before and the instruction, some of either dropped."""

    alpha_bar: Tensor
    null: Tensor

    def __init__(self, unet: UNet2DConditionModel, null: Tensor, alpha_bar: Tensor) -> None:
        super().__init__()
        self.unet = unet
        self.register_buffer("null", null)
        self.register_buffer("alpha_bar", alpha_bar.float())

    def forward(
        self, before: Tensor, after: Tensor, text: Tensor, noise: Tensor, times: Tensor, r: Tensor
    ) -> Tensor:
        seen, told = drop(before, text, self.null, r)

        def beside(x_t: Tensor, t: Tensor, **options: Any) -> Any:
            return self.unet(torch.cat([x_t, seen], 1), t, **options)

        network: Any = beside
        return v_loss(network, self.alpha_bar, after, told, noise, times)


def train(
    folder: Path,
    stickers: Model,
    clip: Clip,
    which: str,
    steps: int = 700,
    batch_size: int = 32,
    lr: float = 2e-3,
    pairs: int = PAIRS,
) -> tuple[UNet2DConditionModel, dict[str, Any]]:
    """The network, an average over its last steps, and what its pairs were; the text encoder stays as it is.

    No picture is mirrored, as the paper's are: instructions here say left and right.
    """
    check(which, tuple(SEEDS), "a network")
    seed = SEEDS[which]
    if which == "drawn":
        data, told = drawn_pairs(folder / "instruct_pix2pix_pairs", stickers, clip, pairs)
    else:
        data, told = true_pairs(stickers, pairs), {}
    unet = widen(stickers.unet).float().cpu().train().requires_grad_(True)
    null = stickers.encode_text("").float().cpu()

    def batch(step: int) -> dict[str, Tensor]:
        generator = generator_for(seed, step)
        chosen = torch.randint(pairs, (batch_size,), generator=generator)
        return {
            **{name: data[name][chosen].float() for name in ("before", "after", "text")},
            "noise": torch.randn(batch_size, *data["after"].shape[1:], generator=generator),
            "times": torch.randint(0, 1000, (batch_size,), generator=generator),
            "r": torch.rand(batch_size, generator=generator),
        }

    name = next(stage for stage, network in STAGES.items() if network == which)
    loss = InstructLoss(unet, null, stickers.schedule.alpha_bar)
    Run(
        name, loss, batch, folder, steps=steps, lr=lr, average=0.995, optimizer=muon_for(loss, lr, ENDS)
    ).train()
    return unet.cpu().eval().requires_grad_(False), {"pairs": pairs, **told}


def run(stage: str, folder: Path, out: Path, **options: Any) -> None:
    """Train a stage's network from the sticker model in `out`, and put it there."""
    which = STAGES[stage]
    stickers = load(out / "stickers", dtype=torch.float32)
    trained = train(folder, stickers, load_clip(out / "clip", stickers.device), which, **options)
    save_instruct(out / "instruct_pix2pix" / which, *trained)


def save_instruct(folder: Path, unet: UNet2DConditionModel, told: dict[str, Any]) -> None:
    """Write a trained network in half precision, and beside its weights what its pairs were."""
    save_networks(folder, {"": unet})
    (folder / "pairs.json").write_text(json.dumps(told, indent=2) + "\n")


def instruct_model(which: str, stickers: Model, folder: Path = WEIGHTS) -> Model:
    """The sticker model with the U-Net that learnt from the `drawn` or the `true` pairs in place of its own.

    Its `unet` is for `use_instruct_pix2pix`; `predict` and `denoiser` show it no picture and do not work.
    Raises ValueError for an unknown network and FileNotFoundError when its weights are not there.
    """
    check(which, tuple(SEEDS), "a network")
    if not (folder / which).is_dir():
        stage = next(stage for stage, network in STAGES.items() if network == which)
        raise FileNotFoundError(
            f"missing {folder / which}: reinstall the course, or run `python -m course.train {stage}`"
        )
    unet = UNet2DConditionModel.from_pretrained(
        folder / which, use_safetensors=True, local_files_only=True, dtype=stickers.dtype
    )
    return replace(stickers, unet=unet.to(stickers.device))
