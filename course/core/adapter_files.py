"""Low-rank adapters on disk: one safetensors file of the adapters alone."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from course.core.adapters import Adapters, LowRank, layer_of

_FORMAT = "course.low_rank.1"


def save_adapters(path: str | Path, adapters: Adapters) -> None:
    """Writes a safetensors file of the adapters alone; a write that fails leaves an older file as it was."""
    if not adapters:
        raise ValueError("there are no adapters to save")
    path = Path(path)
    tensors, header = {}, {}
    for name, adapter in adapters.items():
        header[name] = {"rank": adapter.rank, "scale": adapter.scale}
        for part, value in adapter.state_dict().items():
            tensors[f"{name}.{part}"] = value.detach().cpu().contiguous()
    aside = path.with_name(path.name + ".part")
    try:
        save_file(tensors, aside, metadata={"format": _FORMAT, "adapters": json.dumps(header)})
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def load_adapters(path: str | Path, model: nn.Module) -> dict[str, LowRank]:
    """The adapters of `save_adapters`, on the devices of the layers they belong to.

    Raises FileNotFoundError when there is no file, and ValueError when it is another kind of file, is
    damaged, or was made for a model whose layers have other names or shapes.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no adapter file at {path}")
    tensors, header = _read(path)
    adapters = {}
    for name, settings in header.items():
        layer = layer_of(model, name)
        try:
            parts = {part: tensors.pop(f"{name}.{part}") for part in ("down.weight", "up.weight")}
            adapter = LowRank(layer, settings["rank"], settings["scale"], generator=torch.Generator())
            adapter.load_state_dict(parts)
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: the adapter of {name} does not fit {layer}") from error
        adapters[name] = adapter
    if tensors:
        raise ValueError(f"{path} holds tensors that belong to no adapter: {sorted(tensors)}")
    return adapters


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{path} was not written by save_adapters: its format is {metadata.get('format')!r}")
    try:
        header = dict(json.loads(metadata["adapters"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} lists no adapters") from error
    return tensors, header
