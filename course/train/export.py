"""Puts what was trained into the package, as half-precision safetensors, each file whole or not there."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPModel, CLIPTextModel, PreTrainedTokenizerFast

from course.train.denoiser import SCHEDULER
from course.train.files import forget_paths, replace_folder
from course.world.recogniser import Recogniser


def save_pipeline(
    folder: Path,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: PreTrainedTokenizerFast,
    unet: UNet2DConditionModel,
) -> None:
    """Write the directory that `StableDiffusionPipeline.from_pretrained` opens."""
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(**SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    aside = folder.with_suffix(".part")
    shutil.rmtree(aside, ignore_errors=True)
    pipeline.to(dtype=torch.float16).save_pretrained(aside)
    pipeline.to(dtype=torch.float32)
    forget_paths(aside)
    replace_folder(aside, folder)


def save_clip(folder: Path, clip: CLIPModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write CLIP, image tower, tokenizer and the range of its pictures."""
    aside = folder.with_suffix(".part")
    shutil.rmtree(aside, ignore_errors=True)
    clip.half().save_pretrained(aside)
    clip.float()
    tokenizer.save_pretrained(aside)
    seen = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": clip.config.vision_config.image_size}
    (aside / "preprocessor_config.json").write_text(json.dumps(seen) + "\n")
    forget_paths(aside)
    replace_folder(aside, folder)


def save_recogniser(file: Path, recogniser: Recogniser) -> None:
    """Write the recogniser."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in recogniser.state_dict().items()}
    aside = file.with_suffix(".part")
    save_file({k: v.contiguous() for k, v in state.items()}, aside)
    aside.replace(file)
