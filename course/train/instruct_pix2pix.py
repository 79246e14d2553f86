"""Two networks that follow instructions; they differ in the pairs of pictures that they learn from.

`drawn` is InstructPix2Pix (Brooks et al. 2023, arXiv:2211.09800): a copy of the model that also sees the
picture before learns to draw the one after, from pairs that the model drew. `true` learns likewise, from as
many of the world's own pairs. A copy of the text encoder learns with each: the paper keeps CLIP's as it is,
but that one had read the whole web, and ours read captions and never an instruction.
"""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from course.attention.instruct_pix2pix import drop, widen
from course.core.clip import Clip, load_clip
from course.core.loading import without_bars
from course.core.model import Model, load
from course.train.denoiser import ENDS, v_loss
from course.train.files import save_networks
from course.train.instruction_pairs import SEEDS, drawn_pairs, true_pairs
from course.train.loop import Run, generator_for
from course.train.muon import muon_for
from course.train.text import tokens
from course.world.vocabulary import check

STAGES = {"instruct_pix2pix": "drawn", "instruct_pix2pix_true": "true"}
PAIRS = 4_000  # to learn from, for each network
WEIGHTS = Path(__file__).parents[1] / "weights" / "instruct_pix2pix"


class InstructLoss(nn.Module):
    """`v_loss` of the picture after, given the one before and the instruction, some of either dropped."""

    alpha_bar: Tensor
    empty: Tensor

    def __init__(
        self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, empty: Tensor, alpha_bar: Tensor
    ) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder
        self.register_buffer("empty", empty)  # the tokens of ""
        self.register_buffer("alpha_bar", alpha_bar.float())

    def forward(
        self, before: Tensor, after: Tensor, tokens: Tensor, noise: Tensor, times: Tensor, r: Tensor
    ) -> Tensor:
        text = self.text_encoder(torch.cat([tokens, self.empty])).last_hidden_state
        seen, told = drop(before, text[:-1], text[-1:], r)

        def beside(x_t: Tensor, t: Tensor, **options: Any) -> Any:
            both = torch.cat([x_t, seen], 1)
            both = both.contiguous(memory_format=torch.channels_last)  # 5 % faster on a CPU
            return self.unet(both, t, **options)

        network: Any = beside
        return v_loss(network, self.alpha_bar, after, told, noise, times)


def train(
    folder: Path,
    stickers: Model,
    clip: Clip,
    which: str,
    steps: int = 4_000,
    batch_size: int = 32,
    lr: float = 2e-3,
    pairs: int = PAIRS,
) -> tuple[UNet2DConditionModel, CLIPTextModel, dict[str, Any]]:
    """The U-Net and its text encoder, averages over their last steps, and what their pairs were.

    No picture is mirrored, as the paper's are: instructions here say left and right.
    """
    check(which, tuple(SEEDS), "a network")
    seed = SEEDS[which]
    if which == "drawn":
        data, told = drawn_pairs(folder / "instruct_pix2pix_pairs", stickers, clip, pairs)
    else:
        data, told = true_pairs(stickers, pairs), {}
    unet = widen(stickers.unet).float().cpu().train().requires_grad_(True)
    text_encoder = deepcopy(stickers.text_encoder).float().cpu().train().requires_grad_(True)

    def batch(step: int) -> dict[str, Tensor]:
        generator = generator_for(seed, step)
        chosen = torch.randint(pairs, (batch_size,), generator=generator)
        return {
            **{name: data[name][chosen].float() for name in ("before", "after")},
            "tokens": data["tokens"][chosen],
            "noise": torch.randn(batch_size, *data["after"].shape[1:], generator=generator),
            "times": torch.randint(0, 1000, (batch_size,), generator=generator),
            "r": torch.rand(batch_size, generator=generator),
        }

    name = next(stage for stage, network in STAGES.items() if network == which)
    loss = InstructLoss(unet, text_encoder, tokens(stickers.tokenizer, [""]), stickers.schedule.alpha_bar)
    optimizer = muon_for(loss, lr, ENDS)
    Run(name, loss, batch, folder, steps=steps, lr=lr, average=0.995, optimizer=optimizer).train()
    loss.cpu().eval().requires_grad_(False)
    return unet, text_encoder, {"pairs": pairs, **told}


def run(stage: str, folder: Path, out: Path, **options: Any) -> None:
    """Train a stage's network from the sticker model in `out`, and put it there."""
    which = STAGES[stage]
    stickers = load(out / "stickers", dtype=torch.float32)
    trained = train(folder, stickers, load_clip(out / "clip", stickers.device), which, **options)
    save_instruct(out / "instruct_pix2pix" / which, *trained)


def save_instruct(
    folder: Path, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, told: dict[str, Any]
) -> None:
    """Write trained networks in half precision, and beside their weights what their pairs were."""
    save_networks(folder, {"unet": unet, "text_encoder": text_encoder})
    (folder / "pairs.json").write_text(json.dumps(told, indent=2) + "\n")


def instruct_model(which: str, stickers: Model, folder: Path = WEIGHTS) -> Model:
    """The sticker model with U-Net and text encoder that learnt from the `drawn` or the `true` pairs.

    Its `unet` is for `use_instruct_pix2pix`; `predict` and `denoiser` show it no picture and do not work.
    Raises ValueError for an unknown network and FileNotFoundError when its weights are not there.
    """
    check(which, tuple(SEEDS), "a network")
    if not (folder / which / "text_encoder").is_dir():
        stage = next(stage for stage, network in STAGES.items() if network == which)
        raise FileNotFoundError(
            f"missing {folder / which}: reinstall the course, or run `python -m course.train {stage}`"
        )
    options = {"use_safetensors": True, "local_files_only": True, "dtype": stickers.dtype}
    with without_bars():
        unet = UNet2DConditionModel.from_pretrained(folder / which, subfolder="unet", **options)
        text_encoder = CLIPTextModel.from_pretrained(folder / which, subfolder="text_encoder", **options)
    for part in (unet, text_encoder):
        part.to(stickers.device).eval().requires_grad_(False)
    return replace(stickers, unet=unet, text_encoder=text_encoder)
