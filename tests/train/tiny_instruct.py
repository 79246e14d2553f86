"""InstructPix2Pix's recipe, small enough to kill: `python -m tests.train.tiny_instruct FOLDER`."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel

from benchmarks.tiny import random_model
from course.core.clip import Clip
from course.core.model import Model
from course.train import denoiser, instruct_pix2pix, instruction_pairs
from course.train.text import make_clip

SMALL = {"SHARD": 6, "STEPS": 2, "LEAST": {"caption": -1.0, "likeness": -1.0, "direction": 0.0}}


def tiny_parts() -> tuple[Model, Clip]:
    """The sticker model with a narrower U-Net, and a CLIP, of random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = denoiser.CONFIG | {"block_out_channels": (16, 16, 16), "norm_num_groups": 4}
        model = replace(random_model(), unet=UNet2DConditionModel(**config))
        clip = make_clip().eval().requires_grad_(False)
    return model, Clip(clip, model.tokenizer, (0.5,) * 3, (0.5,) * 3)


def tiny_train(
    folder: Path, which: str, **options: Any
) -> tuple[UNet2DConditionModel, CLIPTextModel, dict[str, Any]]:
    """A few steps on a few pairs."""
    return instruct_pix2pix.train(
        folder, *tiny_parts(), which, **{"steps": 2, "batch_size": 4, "pairs": 12} | options
    )


def main() -> None:
    for name, value in SMALL.items():
        setattr(instruction_pairs, name, value)
    tiny_train(Path(sys.argv[1]), "drawn")


if __name__ == "__main__":
    main()
