"""The measurements as JSON and as the tables of docs/benchmarks.md."""

import json
import platform
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from course.core.model import Model


def machine(model: Model, name: str, steps: int, rounds: int) -> dict[str, Any]:
    """What the figures depend on."""
    weights = sum(weight.numel() for weight in model.unet.parameters())
    return {
        "model": f"{name}: {weights / 1e6:.1f} M weights in the U-Net, {model}",
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "diffusers": version("diffusers"),
        "steps": steps,
        "rounds": rounds,
    }


def markdown(found: dict[str, Any]) -> str:
    """The tables, and what they were measured on."""
    at = found["machine"]
    methods = [
        (
            row["job"],
            row["calls"],
            f"{row['bare_ms']:.0f}",
            f"{row['walk_ms']:.0f}",
            f"{row['walk_over_bare']:.3f}",
            f"{row['ours_ms']:.0f}",
            f"{row['diffusers_ms']:.0f}",
            f"{row['ours_over_diffusers']:.3f}",
            f"{row['traced_ms']:.0f}",
            f"{row['traced_over_diffusers']:.3f}",
            f"{row['difference']:.0e}",
        )
        for row in found["methods"]
    ]
    rest = [
        (
            row["job"],
            f"{row['walk_without_unet_ms']:.2f}",
            f"{row['walk_without_unet_over_bare']:.4f}",
            f"{row['ours_without_unet_ms']:.1f}",
            f"{row['diffusers_without_unet_ms']:.1f}",
        )
        for row in found["methods"]
    ]
    ideas = [
        (row["idea"], f"{row['ms']:.1f}", f"{row['over_plain']:.2f}", f"{row['difference']:.0e}")
        for row in found["bare"]
    ]
    return "\n\n".join(
        [
            f"{at['model']}. {at['processor']}, {at['threads']} threads; torch {at['torch']}, diffusers "
            f"{at['diffusers']}; {at['steps']} steps asked for, guidance, one picture; medians of "
            f"{at['rounds']} rounds.",
            "### Methods",
            table(
                "method | U-Net calls | calls alone, ms | latents to latents, ms | over calls alone | "
                "prompt to picture, ms | diffusers, ms | over diffusers | "
                "traced, ms | over diffusers | largest difference",
                methods,
            ),
            "### The same without the U-Net",
            table(
                "method | latents to latents, ms | over calls alone | prompt to picture, ms | diffusers, ms",
                rest,
            ),
            "### One guided call",
            table("idea | ms | over plain | largest difference of eps", ideas),
        ]
    )


def write(path: Path, text: str) -> None:
    """Write aside, then rename: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".partial")
    aside.write_text(text, "utf8")
    aside.replace(path)


def write_json(path: Path, found: dict[str, Any]) -> None:
    """Every round's seconds too."""
    write(path, json.dumps(found, indent=1) + "\n")


def write_page(path: Path, tables: str, name: str = "table") -> None:
    """Put the tables between the page's two marks of that name. Raises ValueError where they are missing."""
    page, begin, end = path.read_text("utf8"), f"<!-- begin {name} -->", f"<!-- end {name} -->"
    if not re.search(f"{begin}.*{end}", page, re.DOTALL):
        raise ValueError(f"{path} lacks the marks {begin} and {end}: put them where the tables belong")
    before, after = page.split(begin)[0], page.split(end)[1]
    write(path, f"{before}{begin}\n{tables}\n{end}{after}")


def table(head: str, rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown; the names in `head` stand between bars."""
    names = head.split(" | ")
    lines = [names, ["---"] + ["--:"] * (len(names) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.is_file() else []
    return names[0] if names else platform.processor() or platform.machine()
