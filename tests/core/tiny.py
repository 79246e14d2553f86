"""A tiny, randomly initialised model of Stable Diffusion's shape, with SD 1.5's scheduler settings."""

from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from course.core.model import Model
from course.core.schedule import Schedule

WORDS = ("a", "red", "blue", "cat", "dog", "car", "on", "grass", "snow", "photo", "sketch", "of")
SD15: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def word_tokenizer(length: int = 12) -> PreTrainedTokenizerFast:
    start, end, unknown = "<|startoftext|>", "<|endoftext|>", "<|unk|>"
    vocabulary = {word: i for i, word in enumerate([start, end, unknown, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, 0), (end, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=start,
        eos_token=end,
        unk_token=unknown,
        pad_token=end,
        model_max_length=length,
    )


def tiny_pipeline(**scheduler: Any) -> StableDiffusionPipeline:
    """The pipeline; the same weights each time. Keywords change SD 1.5's scheduler config."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = word_tokenizer()
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(16, 32),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=4,
            norm_num_groups=8,
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=4,
            scaling_factor=0.7,
            sample_size=16,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=12,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )
    return assembled(unet, vae, text_encoder, tokenizer, **scheduler)


def assembled(unet: Any, vae: Any, text_encoder: Any, tokenizer: Any, **scheduler: Any) -> Any:
    """The pipeline of these parts. Keywords change SD 1.5's scheduler config."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(**SD15 | scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def as_model(pipeline: StableDiffusionPipeline) -> Model:
    return Model(
        unet=pipeline.unet,
        vae=pipeline.vae,
        text_encoder=pipeline.text_encoder,
        tokenizer=pipeline.tokenizer,
        schedule=Schedule.from_config(pipeline.scheduler.config),
        scheduler_config=pipeline.scheduler.config,
    )
