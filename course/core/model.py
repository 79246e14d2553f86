"""A latent diffusion model: text, pictures and noise in, and out again; and how to get one."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPTextModel, PreTrainedTokenizerBase

from course.core.checkpoint import REMEDY, check_directory
from course.core.guidance import classifier_free
from course.core.loading import device_for, open_parts, pipeline_class
from course.core.sampling import Denoiser
from course.core.schedule import Schedule
from course.core.words import check_prompt

SHIPPED = {"stickers": Path(__file__).parents[1] / "weights" / "stickers"}


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A latent diffusion model, frozen: nothing done with it builds a graph through its weights.

    images [b 3 H W] in [-1, 1]; latents [b c h w] of about unit variance; text [b tokens dim].
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: PreTrainedTokenizerBase
    schedule: Schedule
    scheduler_config: Mapping[str, Any]

    def __post_init__(self) -> None:
        for network in (self.unet, self.vae, self.text_encoder):
            network.requires_grad_(False).eval()

    def __repr__(self) -> str:
        channels, height, width = self.latent_shape
        return (
            f"Model({self.image_size} px, latents {channels}x{height}x{width}, {self.dtype} on {self.device})"
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' floating point type."""
        return self.unet.dtype

    @property
    def image_size(self) -> int:
        """Pixels a side of the pictures that the model was trained on."""
        return self.latent_shape[1] * self.pixels_per_cell

    @cached_property
    def latent_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of one picture's latents."""
        size = self.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return self.vae.config.latent_channels, height, width

    @cached_property
    def pixels_per_cell(self) -> int:
        """Pixels a side that one latent cell stands for."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @cached_property
    def tokens(self) -> int:
        """Places for tokens in a prompt, the two that mark its ends included."""
        return min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)

    def encode_text(self, prompts: str | Sequence[str]) -> Float[Tensor, "b tokens dim"]:
        """Embeddings of the prompts, padded to the tokenizer's length; "" is the null text.

        Raises ValueError for a word the tokenizer does not know and for a prompt that is too long.
        """
        prompts = [prompts] if isinstance(prompts, str) else prompts
        if (
            not isinstance(prompts, Sequence)
            or not prompts
            or not all(isinstance(prompt, str) for prompt in prompts)
        ):
            raise ValueError(f"prompts must be a text or a list of texts, got {prompts!r}")
        for prompt in prompts:
            check_prompt(self.tokenizer, prompt)
        found = self.tokenizer(
            list(prompts), padding="max_length", max_length=self.tokens, truncation=True, return_tensors="pt"
        ).to(self.device)
        masked = getattr(
            self.text_encoder.config, "use_attention_mask", False
        )  # no Stable Diffusion does; diffusers asks
        return self.text_encoder(found.input_ids, attention_mask=found.attention_mask if masked else None)[0]

    def encode(self, images: Float[Tensor, "b 3 H W"], generator: torch.Generator | None = None) -> Tensor:
        """Scaled latents [b c H/f W/f], f = pixels_per_cell: the posterior's mean; with a generator, a draw.

        Raises ValueError for sides that f does not divide, and values beyond [-1, 1].
        """
        divides = not any(side % self.pixels_per_cell for side in images.shape[2:])
        if images.ndim != 4 or images.shape[1] != 3 or not divides or images.numel() == 0:
            rule = f"images must be [b 3 H W] with sides that {self.pixels_per_cell} divides"
            raise ValueError(f"{rule}, got {list(images.shape)}: read_image(source, model.image_size)")
        if not images.abs().max() <= 1.001:
            raise ValueError(
                f"images must lie in [-1, 1], got up to {images.abs().max():.3g}: read_image scales them"
            )
        posterior = self.vae.encode(images.to(self.device, self.dtype)).latent_dist
        latents = posterior.mean if generator is None else posterior.sample(generator)
        return (latents - self._shift) * self.vae.config.scaling_factor

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Images in [-1, 1] of scaled latents."""
        latents = latents.to(self.device, self.dtype) / self.vae.config.scaling_factor + self._shift
        return self.vae.decode(latents, return_dict=False)[0].clamp(-1, 1)

    def predict(self, x_t: Float[Tensor, "b c h w"], t: int | Tensor, text: Float[Tensor, "b n d"]) -> Tensor:
        """The noise eps in x_t at time t, shaped as x_t, whether the network predicts eps or v."""
        output = self.unet(x_t, t, encoder_hidden_states=text, return_dict=False)[0]
        return self.schedule.to_eps(output, x_t, t)

    def denoiser(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] = "",
        guidance_scale: float = 7.5,
    ) -> Denoiser:
        """The guided denoiser of a prompt; guidance_scale 1 is no guidance and costs half."""
        return classifier_free(
            self.predict, self.encode_text(prompt), self.encode_text(negative_prompt), guidance_scale
        )

    def noise(self, batch: int = 1, generator: torch.Generator | None = None) -> Float[Tensor, "b c h w"]:
        """Unit noise to start from; a CPU generator gives every device the same."""
        device = self.device if generator is None else generator.device
        shape = (batch, *self.latent_shape)
        return torch.randn(shape, generator=generator, device=device, dtype=self.dtype).to(self.device)

    def pipeline(self) -> DiffusionPipeline:
        """diffusers' StableDiffusionPipeline over the same weights, with DDIM and no safety checker."""
        pipeline = pipeline_class()(
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=None,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        # Set afterwards: the constructor overrules a config that says steps_offset 0.
        pipeline.scheduler = DDIMScheduler.from_config(self.scheduler_config)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    @property
    def _shift(self) -> float:
        return getattr(self.vae.config, "shift_factor", None) or 0.0


def load(
    name: str | Path = "stickers", device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> Model:
    """The sticker model of this package, or a Stable Diffusion 1.x or 2.x checkpoint: directory or hub name.

    device: CUDA if it is there, else the CPU. dtype: float16 on CUDA, else float32, whatever the files hold.
    A directory is opened without the network. Only safetensors are read.
    Raises FileNotFoundError for what is missing and ValueError for what is broken, naming the file.
    """
    device = device_for(device)
    dtype = dtype or (torch.float16 if device.type == "cuda" else torch.float32)
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating point type, got {dtype}")
    path = SHIPPED.get(str(name), Path(name).expanduser())
    if path.is_dir():
        check_directory(path)
        return Model(**open_parts(path, device, dtype, local_files_only=True))
    if path.exists():
        raise ValueError(f"{path} is a file, and a model is a directory: {REMEDY}")
    if str(name) in SHIPPED or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(name)):
        raise FileNotFoundError(
            f"no model at {path}: give a directory, a hub name, or one of {sorted(SHIPPED)}"
        )
    return Model(**open_parts(str(name), device, dtype, local_files_only=False))
