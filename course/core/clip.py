"""CLIP: how well does a picture fit a text? Radford et al. 2021, arXiv:2103.00020."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer, CLIPModel, PreTrainedTokenizerBase

from course.core.loading import without_bars
from course.core.words import check_prompt

SHIPPED = {"stickers": Path(__file__).parents[1] / "weights" / "clip"}


@dataclass(frozen=True, eq=False)
class Clip:
    """A frozen CLIP; `mean` and `std` are what its image tower was trained to see, for pictures in [0, 1]."""

    model: CLIPModel
    tokenizer: PreTrainedTokenizerBase
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def embed_images(self, images: Tensor) -> Tensor:
        """Unit vectors [b d] of images [b 3 H W] in [-1, 1]; differentiable in the images."""
        size = self.model.config.vision_config.image_size
        images = images.to(self.model.device, self.model.dtype)
        if images.shape[-2:] != (size, size):
            images = F.interpolate(images, (size, size), mode="bicubic", antialias=True)
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        pooled = self.model.vision_model(((images + 1) / 2 - mean) / std).pooler_output
        return F.normalize(self.model.visual_projection(pooled), dim=-1)

    def embed_text(self, prompts: str | Sequence[str]) -> Tensor:
        """Unit vectors [b d] of prompts. Raises ValueError for an unknown word or a prompt too long."""
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        for prompt in prompts:
            check_prompt(self.tokenizer, prompt)
        tokens = self.model.config.text_config.max_position_embeddings
        ids = self.tokenizer(prompts, padding="max_length", max_length=tokens, return_tensors="pt").input_ids
        pooled = self.model.text_model(ids.to(self.model.device)).pooler_output
        return F.normalize(self.model.text_projection(pooled), dim=-1)

    def score(self, images: Tensor, prompts: str | Sequence[str]) -> Tensor:
        """Cosine [b] between each picture and its prompt; one prompt serves all pictures."""
        return (self.embed_images(images) * self.embed_text(prompts)).sum(-1)


def load_clip(name: str | Path = "stickers", device: str | torch.device = "cpu") -> Clip:
    """The course's CLIP, or any of transformers' by its directory or hub name, in float32.

    Raises FileNotFoundError when a directory is not there.
    """
    path = SHIPPED.get(str(name), Path(name))
    local = path.is_dir()
    if not local and (str(name) in SHIPPED or path.is_absolute()):
        raise FileNotFoundError(f"no CLIP at {path}: reinstall the course, or train it with `make weights`")
    where = str(path) if local else str(name)
    with without_bars():
        model = CLIPModel.from_pretrained(where, local_files_only=local, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(where, local_files_only=local)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI's
    if local and (path / "preprocessor_config.json").exists():
        seen = json.loads((path / "preprocessor_config.json").read_text())
        mean, std = tuple(seen["image_mean"]), tuple(seen["image_std"])
    return Clip(model.float().to(device).eval().requires_grad_(False), tokenizer, mean, std)
