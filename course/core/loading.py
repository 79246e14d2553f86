"""How diffusers opens a Stable Diffusion checkpoint: part by part, quietly, refused when not whole."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import diffusers.utils.logging
import torch
import transformers.utils.logging
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from safetensors import SafetensorError
from transformers import CLIPTextModel, PreTrainedTokenizerBase

from course.core.checkpoint import REMEDY
from course.core.schedule import Schedule

NETWORKS = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}


def open_parts(
    name: str | Path, device: torch.device, dtype: torch.dtype, local_files_only: bool
) -> dict[str, Any]:
    """Its networks, tokenizer, schedule and scheduler_config, by the names of Model's fields.

    Raises ValueError, naming the checkpoint, for whatever the libraries raise about it.
    """
    options: dict[str, Any] = {"local_files_only": local_files_only, "dtype": dtype}
    try:
        with quiet():
            parts = {part: _network(name, part, options) for part in NETWORKS}
            # As DDIM's: keys that another class of scheduler leaves out then have the values DDIM will use.
            scheduler = DDIMScheduler.from_pretrained(
                str(name),
                subfolder="scheduler",
                local_files_only=local_files_only,
                clip_sample=False,
                thresholding=False,
            )
            tokenizer = _tokenizer(name, parts, options)
        schedule = Schedule.from_config(scheduler.config)
    except (OSError, RuntimeError, KeyError, TypeError, AttributeError, ValueError, SafetensorError) as error:
        raise ValueError(f"{name} cannot be opened as Stable Diffusion ({error}): {REMEDY}") from error
    parts = {part: network.to(device) for part, network in parts.items()}
    return {**parts, "tokenizer": tokenizer, "schedule": schedule, "scheduler_config": scheduler.config}


def _tokenizer(
    name: str | Path, parts: Mapping[str, Any], options: Mapping[str, Any]
) -> PreTrainedTokenizerBase:
    """The tokenizer, of the class that model_index.json names; the pipeline's loader knows how to find it."""
    unused = DDIMScheduler(clip_sample=False, steps_offset=1)
    pipeline = pipeline_class().from_pretrained(
        str(name),
        **parts,
        **options,
        scheduler=unused,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return pipeline.tokenizer


def _network(name: str | Path, part: str, options: Mapping[str, Any]) -> Any:
    """One network, refused when its file lacks weights: the libraries only warn, and draw them at random."""
    network, report = NETWORKS[part].from_pretrained(
        str(name), subfolder=part, use_safetensors=True, output_loading_info=True, **options
    )
    if report["missing_keys"]:
        some = sorted(report["missing_keys"])[:3]
        raise ValueError(f"the weights of {part} lack {len(report['missing_keys'])} tensors, such as {some}")
    return network


def device_for(device: str | torch.device | None) -> torch.device:
    """The device asked for; if none is, CUDA where it is there, else the CPU. Else ValueError."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"no device is called {device!r}: cpu, cuda and mps are") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device cuda was asked for, and torch finds no CUDA GPU: leave device out, or pass 'cpu'"
        )
    return device


def pipeline_class() -> type[DiffusionPipeline]:
    """Imported only here: its import advises us to install torchvision, which we do without."""
    with quiet():
        from diffusers import StableDiffusionPipeline
    return StableDiffusionPipeline


@contextmanager
def without_bars() -> Iterator[None]:
    """No progress bars: in a notebook each would leave a widget behind."""
    with ExitStack() as undo:
        for logging in (diffusers.utils.logging, transformers.utils.logging):
            if logging.is_progress_bar_enabled():
                logging.disable_progress_bar()
                undo.callback(logging.enable_progress_bar)
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, and no advice; what is wrong with a checkpoint we say ourselves."""
    with ExitStack() as undo:
        undo.enter_context(without_bars())
        for logging in (diffusers.utils.logging, transformers.utils.logging):
            undo.callback(logging.set_verbosity, logging.get_verbosity())
            logging.set_verbosity_error()
        yield
