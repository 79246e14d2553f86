"""Folders of weights: put in place whole, and silent about the machine that made them."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def replace_folder(aside: Path, folder: Path) -> None:
    """Put a folder that was written aside into its place; what was there goes last."""
    old = folder.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    aside.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def forget_paths(folder: Path) -> None:
    """The libraries write down which directory a part was loaded from; that is nobody else's business."""
    for file in folder.rglob("config.json"):
        config = json.loads(file.read_text())
        if config.pop("_name_or_path", None) is not None:
            file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def save_networks(folder: Path, networks: Mapping[str, Any]) -> None:
    """Write diffusers' networks in half precision, each in a folder of its name ("" is `folder` itself).

    A write that fails leaves no folder behind, and what was there before.
    """
    aside = folder.with_suffix(".part")
    shutil.rmtree(aside, ignore_errors=True)
    for name, network in networks.items():
        network.half().save_pretrained(aside / name)
        network.float()
    forget_paths(aside)
    replace_folder(aside, folder)
