"""The tokenizer, the text encoder that the denoiser trains, and a CLIP (Radford et al. 2021) of its own."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from course.train.data import as_images, training_scenes
from course.train.loop import Run
from course.world.captions import any_caption
from course.world.scene import Dice, Scene
from course.world.vocabulary import COLOURS, KINDS, NATURAL_COLOUR, NEW_WORDS, WORDS

START, END = "<|startoftext|>", "<|endoftext|>"
TOKENS = 24  # the longest caption has 19
WIDTH = 128


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer of the world's words and the spare ones; it knows no unknown word."""
    vocabulary = {word: i for i, word in enumerate((START, END, *WORDS, *NEW_WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, 0), (END, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=END, pad_token=END, model_max_length=TOKENS
    )


TEXT: dict[str, Any] = {
    "vocab_size": 2 + len(WORDS) + len(NEW_WORDS),
    "hidden_size": WIDTH,
    "intermediate_size": 4 * WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": TOKENS,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}


def _tell_words_apart(embeddings: nn.Embedding) -> None:
    """Distinct words from the first step: at CLIP's own scale of 0.02 they are hardly told apart."""
    with torch.no_grad():
        embeddings.weight.normal_(0, 0.5)


def make_text_encoder() -> CLIPTextModel:
    """An untrained text encoder of two layers."""
    encoder = CLIPTextModel(CLIPTextConfig(**TEXT))
    _tell_words_apart(encoder.get_input_embeddings())
    return encoder


def make_clip() -> CLIPModel:
    """An untrained CLIP of two text layers and three image layers over 8-pixel patches."""
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 64,
        "patch_size": 8,
    }
    clip = CLIPModel(CLIPConfig(text_config=TEXT, vision_config=vision, projection_dim=WIDTH))
    _tell_words_apart(clip.text_model.embeddings.token_embedding)
    return clip


class ContrastiveLoss(nn.Module):
    """CLIP's loss, with each caption's twin of one changed word as an extra wrong answer,
    and a small probe that asks each kind's token for its own colour, so that each keeps its colour."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip
        self.colour = nn.Linear(WIDTH, len(COLOURS))

    def forward(self, images: Tensor, ids: Tensor, twins: Tensor, colours: Tensor) -> Tensor:
        vision = self.clip.visual_projection(self.clip.vision_model(images).pooler_output)
        both = self.clip.text_model(torch.cat([ids, twins]))
        text = F.normalize(self.clip.text_projection(both.pooler_output), dim=-1)
        logits = self.clip.logit_scale.exp().clamp(max=100) * F.normalize(vision, dim=-1) @ text.T
        answers = torch.arange(len(images), device=images.device)
        contrast = F.cross_entropy(logits, answers) + F.cross_entropy(logits[:, : len(images)].T, answers)
        told = self.colour(both.last_hidden_state[: len(ids)]).flatten(0, 1)
        return contrast / 2 + F.cross_entropy(told, colours.flatten(), ignore_index=-100)


def colour_labels(tokenizer: PreTrainedTokenizerFast, captions: list[str]) -> Tensor:
    """For each token, the number of its sticker's colour if it names a kind, else -100; int [n tokens]."""
    labels = torch.full((len(captions), TOKENS), -100)
    for row, words in zip(labels, map(str.split, captions), strict=True):
        for i, word in enumerate(words):
            if word in KINDS:
                own = words[i - 1] if words[i - 1] in COLOURS else NATURAL_COLOUR.get(word, COLOURS[0])
                row[i + 1] = COLOURS.index(own)
    return labels


def twin(caption: str, dice: Dice) -> str:
    """The caption with its two stickers' kinds or colours exchanged, or else one kind or colour changed."""
    words = caption.split()
    for group in dice.choice(((KINDS, COLOURS), (COLOURS, KINDS))):
        at = [i for i, word in enumerate(words) if word in group]
        if len(at) == 2 and words[at[0]] != words[at[1]]:
            words[at[0]], words[at[1]] = words[at[1]], words[at[0]]
            return " ".join(words)
        if at:
            i = dice.choice(at)
            words[i] = dice.choice([w for w in group if w not in (words[i], "natural")])
            return " ".join(words)
    return f"a photo of a star {caption}"  # nothing but a background: any wrong caption will do


def tokens(tokenizer: PreTrainedTokenizerFast, captions: list[str]) -> Tensor:
    """Token numbers, int [n tokens]."""
    return tokenizer(captions, padding="max_length", max_length=TOKENS, return_tensors="pt").input_ids


def captions_of(scenes: list[Scene], dice: Dice) -> list[str]:
    """A true caption of each scene."""
    return [any_caption(scene, dice) for scene in scenes]


def train(
    folder: Path, steps: int = 3000, batch_size: int = 64, lr: float = 1e-3, seed: int = 2
) -> CLIPModel:
    """The trained CLIP."""
    torch.manual_seed(seed)
    tokenizer, clip = make_tokenizer(), make_clip()

    def batch(step: int) -> dict[str, Tensor]:
        scenes = training_scenes(seed, step, batch_size, anywhere=True)
        dice = Dice(seed * 1_000_000_007 + step)
        captions = captions_of(scenes, dice)
        return {
            "images": as_images(scenes),
            "ids": tokens(tokenizer, captions),
            "twins": tokens(tokenizer, [twin(c, dice) for c in captions]),
            "colours": colour_labels(tokenizer, captions),
        }

    Run("text", ContrastiveLoss(clip), batch, folder, steps=steps, lr=lr).train()
    return clip.eval().requires_grad_(False)
