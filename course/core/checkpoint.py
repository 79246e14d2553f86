"""Is a directory a whole Stable Diffusion checkpoint? diffusers' own answers name no remedy, so ask first."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

NETWORKS = ("unet", "vae", "text_encoder")
REMEDY = (
    "restore the directory (StableDiffusionPipeline.save_pretrained writes one), or open another checkpoint"
)


def check_directory(path: Path) -> None:
    """Raise unless the directory holds all that Stable Diffusion needs, each file whole.

    FileNotFoundError for a missing file, ValueError for a broken one; both name it.
    """
    index = _read_json(path / "model_index.json")
    missing = {*NETWORKS, "tokenizer", "scheduler"} - set(index)
    if missing or "text_encoder_2" in index:
        kind = index.get("_class_name", "of no class")
        raise ValueError(f"{path / 'model_index.json'} is {kind}, not Stable Diffusion 1.x or 2.x: {REMEDY}")
    _read_json(path / "scheduler" / "scheduler_config.json")
    for part in NETWORKS:
        _read_json(path / part / "config.json")
        _check_weights(path / part)
    if not any((path / "tokenizer" / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise FileNotFoundError(f"missing {path / 'tokenizer' / 'tokenizer.json'}: {REMEDY}")
    for file in (path / "tokenizer").glob("*.json"):
        _read_json(file)


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"missing {file}: {REMEDY}")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error}): {REMEDY}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} must hold a JSON object, not a {type(found).__name__}: {REMEDY}")
    return found


def _check_weights(folder: Path) -> None:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"missing {folder}/*.safetensors (pickled weights are not opened): {REMEDY}")
    for file in files:
        try:
            with safe_open(file, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} is broken or cut short ({error}): {REMEDY}") from error
