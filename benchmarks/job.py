"""A method beside the U-Net calls that it needs, and beside a rival; and the command that measures such."""

import argparse
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import report
from benchmarks.timing import milliseconds, race, ratio
from benchmarks.tiny import random_model
from course.core.model import Model, load
from course.core.tuning import training

ROOT = Path(__file__).parents[1]
HEAD = "method | calls | calls alone, ms | method, ms | over calls alone | rival | ms | over rival | differs"
Call = tuple[tuple[Any, ...], dict[str, Any], str]  # of the U-Net, and what takes a gradient from it


@dataclass(frozen=True)
class Job:
    """walk: from latents to latents. rival: another way to do `whole`, which is the walk unless given.

    unet: the network that the walk asks, where it is not the model's own.
    """

    name: str
    walk: Callable[[], Tensor]
    whole: Callable[[], Tensor] | None = None
    rival: tuple[str, Callable[[], Tensor]] | None = None
    unet: nn.Module | None = None


def measured(model: Model, job: Job, rounds: int) -> dict[str, Any]:
    """One row: times in milliseconds, and how far the result is from the rival's."""
    unet = model.unet if job.unet is None else job.unet
    with recorded(unet) as calls:
        job.walk()
    whole = job.whole or job.walk
    ways: dict[str, Callable[[], object]] = {"bare": partial(replay, unet, calls), "walk": job.walk}
    if job.rival is not None:
        ways |= {"whole": whole, "rival": job.rival[1]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        times = race(ways, rounds)
        found: dict[str, Any] = {
            "job": job.name,
            "calls": len(calls),
            "rows": sum(len(args[0]) for args, _, _ in calls),
            "walk_ms": milliseconds(times, "walk"),
            "seconds": times,
        }
        if calls:
            found |= {
                "bare_ms": milliseconds(times, "bare"),
                "walk_over_bare": ratio(times, "walk", "bare"),
            }
        if job.rival is not None:
            found |= {
                "rival": job.rival[0],
                "rival_ms": milliseconds(times, "rival"),
                "whole_over_rival": ratio(times, "whole", "rival"),
                "difference": float((whole() - job.rival[1]()).abs().max()),
            }
    return found


@contextmanager
def recorded(unet: nn.Module) -> Iterator[list[Call]]:
    """The U-Net's calls within the block, each with what takes a gradient from it, if anything does."""
    calls: list[Call] = []

    def watch(unet: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        text, wanted = options.get("encoder_hidden_states"), "nothing"
        if text is not None and torch.is_grad_enabled():
            trained = any(weight.requires_grad for weight in unet.parameters())
            wanted = "weights" if trained else "text" if text.requires_grad else "nothing"
        given = tuple(_detached(each) for each in args)
        calls.append((given, {name: _detached(each) for name, each in options.items()}, wanted))

    hook = unet.register_forward_pre_hook(watch, with_kwargs=True)
    try:
        yield calls
    finally:
        hook.remove()


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def replay(unet: nn.Module, calls: Sequence[Call]) -> None:
    """The calls again, each with its backward pass, and nothing between them."""
    weights = list(unet.parameters())
    for args, options, wanted in calls:
        if wanted == "nothing":
            with torch.no_grad():
                unet(*args, **options)
            continue
        text = options["encoder_hidden_states"].clone().requires_grad_(wanted == "text")
        with training(weights) if wanted == "weights" else nullcontext():
            output = unet(*args, **options | {"encoder_hidden_states": text})[0]
            torch.autograd.grad(output, weights if wanted == "weights" else [text], torch.ones_like(output))


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table."""
    lines = []
    for row in rows:
        bare, over = (f"{row['bare_ms']:.0f}", f"{row['walk_over_bare']:.3f}") if row["calls"] else ("-", "-")
        line = [row["job"], row["calls"], bare, f"{row['walk_ms']:.0f}", over]
        if "rival" in row:
            line += [row["rival"], f"{row['rival_ms']:.0f}", f"{row['whole_over_rival']:.3f}"]
            line.append(f"{row['difference']:.0e}")
        lines.append(line + ["-"] * (HEAD.count(" | ") + 1 - len(line)))
    return report.table(HEAD, lines)


def command(name: str, about: str | None) -> argparse.ArgumentParser:
    """The options that every such command has."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="of the walks, and of what is trained")
    parser.add_argument("--model", default="stickers", help="as load() takes it")
    parser.add_argument("--tiny", action="store_true", help="a random model of the stickers' shape")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / f"{name}.json")
    parser.add_argument("--markdown", type=Path, help="page to write the table into (docs/benchmarks.md)")
    return parser


def run(name: str, asked: argparse.Namespace, measure: Callable[[Model], Sequence[dict[str, Any]]]) -> None:
    """Measure, print the table, and write the figures down, and the table between the page's marks."""
    model = random_model() if asked.tiny else load(asked.model, dtype=torch.float32)
    rows = measure(model)
    print(markdown(rows))
    about = "random weights" if asked.tiny else asked.model
    machine = report.machine(model, about, asked.steps, asked.rounds)
    report.write_json(asked.json, {"machine": machine, name: rows})
    if page := asked.markdown or (None if asked.tiny else ROOT / "docs" / "benchmarks.md"):
        report.write_page(page, markdown(rows), name)
