"""python -m benchmarks [--rounds N] [--steps N] [--json FILE] [--markdown FILE] [--tiny] [--compile]"""

import argparse
from pathlib import Path
from typing import Any

import torch

from benchmarks import bare, methods, report
from benchmarks.tiny import random_model
from course.core.model import Model, load

ROOT = Path(__file__).parents[1]


def measure(
    model: Model, name: str, prompt: str, steps: int, rounds: int, compiled: bool = False
) -> dict[str, Any]:
    """All figures of one model."""
    return {
        "machine": report.machine(model, name, steps, rounds),
        "methods": methods.measure(model, prompt, steps, rounds),
        "bare": bare.measure(model, prompt, 10 * rounds, compiled),
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, and write them down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed, side by side.")
    parser.add_argument(
        "--rounds", type=int, default=7, help="rounds of each race (ten times as many for calls)"
    )
    parser.add_argument("--steps", type=int, default=20, help="sampling steps")
    parser.add_argument("--model", default="stickers", help="as load() takes it")
    parser.add_argument("--prompt", default="a red car on grass")
    parser.add_argument(
        "--tiny", action="store_true", help="a random model of the stickers' shape; no page written"
    )
    parser.add_argument("--compile", action="store_true", help="try torch.compile too")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "benchmarks.json")
    parser.add_argument("--markdown", type=Path, help="page to write the tables into (docs/benchmarks.md)")
    asked = parser.parse_args(arguments)
    model = random_model() if asked.tiny else load(asked.model)
    name = "random weights" if asked.tiny else asked.model
    page = asked.markdown or (None if asked.tiny else ROOT / "docs" / "benchmarks.md")
    with torch.no_grad():
        found = measure(model, name, asked.prompt, asked.steps, asked.rounds, asked.compile)
    print(report.markdown(found))
    report.write_json(asked.json, found)
    if page is not None:
        report.write_page(page, report.markdown(found))


if __name__ == "__main__":
    main()
