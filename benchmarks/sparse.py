"""python -m benchmarks.sparse [--networks stickers sd15] [--width 1.0] [--rounds N] [--json F] [--markdown F]

What sparse inference saves of a walk of two calls of a U-Net: multiply-adds and seconds, by the share of the
picture that was edited. The stickers' U-Net as it is shipped, and one of Stable Diffusion 1.5's shape with
random weights, on 64 x 64 latents; speed does not depend on what was learnt. At full width the latter takes
6 GB and, on two cores, some minutes.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from benchmarks import report
from benchmarks.timing import milliseconds, race, ratio
from course.core.model import load
from course.core.operations import Operations
from course.core.sampling import blend
from course.core.schedule import Schedule
from course.noise_editing.sdedit import sdedit
from course.noise_editing.sparse_inference import cached, sparse_inference

ROOT = Path(__file__).parents[1]
SHARES = (0.01, 0.05, 0.15, 0.30)
STEPS, STRENGTH = 4, 0.5  # two calls
DENSE, CACHED = "dense", "dense, and cached"
SD15 = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
    "set_alpha_to_one": False,
}
HEAD = "edited | computed | multiply-adds, G | times fewer | ms | times faster | error"


def sd15(width: float = 1.0) -> UNet2DConditionModel:
    """A U-Net of Stable Diffusion 1.5's shape, its channels times `width`, with random weights."""
    channels = [max(round(width * each / 16), 1) * 16 for each in (320, 640, 1280, 1280)]
    groups = 32 if channels[0] % 32 == 0 else 16
    with torch.device("meta"):  # diffusers' own initialisation takes longer than the measurement
        unet = UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768, block_out_channels=channels, norm_num_groups=groups
        )
    unet = unet.to_empty(device="cpu").requires_grad_(False).eval()
    generator = torch.Generator().manual_seed(0)
    for weight in unet.parameters():
        bound = 1 if weight.ndim == 1 else (3 / weight[0].numel()) ** 0.5
        weight.uniform_(1 if weight.ndim == 1 else -bound, bound, generator=generator)
    return unet


def square(share: float, height: int, width: int) -> Tensor:
    """A square of this share of the picture, in its middle, [1 1 h w]."""
    side = max(round((share * height * width) ** 0.5), 1)
    top, left = (height - side) // 2, (width - side) // 2
    mask = torch.zeros(1, 1, height, width)
    mask[..., top : top + side, left : left + side] = 1
    return mask


def measure(
    unet: UNet2DConditionModel,
    schedule: Schedule,
    tokens: int,
    rounds: int,
    shares: Sequence[float] = SHARES,
) -> list[dict[str, Any]]:
    """Two rows for the original, without and with keeping its maps, and one for the edit of each share.

    Original and edit are taken through SDEdit from one noise. In the edited part the source's latents give
    way to others. error: of the sparse answer, relative to what the edit changes in the dense one (root mean
    squares over the picture; 1 is as far off as the original's answer).
    """
    generator = torch.Generator().manual_seed(0)
    size, text_width = unet.config.sample_size, unet.config.cross_attention_dim
    shape = (1, unet.config.in_channels, size, size)
    source, other, noise = (torch.randn(shape, generator=generator) for _ in range(3))
    text = torch.randn(1, tokens, text_width, generator=generator)
    masks = {share: square(share, size, size) for share in shares}
    guides = {share: blend(other, source, mask) for share, mask in masks.items()}

    def denoise(x: Tensor, t: int) -> Tensor:
        return schedule.to_eps(unet(x, t, encoder_hidden_states=text, return_dict=False)[0], x, t)

    def dense(latents: Tensor) -> Tensor:
        return sdedit(denoise, latents, noise, schedule.times(STEPS), schedule, STRENGTH, eta=0.0)

    def keeping() -> Tensor:
        with cached(unet):
            return dense(source)

    def sparse(share: float) -> Tensor:
        with sparse_inference(unet, cache, masks[share]) as active:
            computed[share] = float(active.cells((size, size)).float().mean())
            return dense(guides[share])

    computed: dict[float, float] = {}
    with Operations() as work, cached(unet) as cache:
        original = dense(source)
    counted = dict.fromkeys((DENSE, CACHED), work.total)
    ways: dict[str, Callable[[], object]] = {DENSE: partial(dense, source), CACHED: keeping}
    times = race(ways | {_name(share): partial(sparse, share) for share in shares}, rounds)
    rows = [_row(way, 1.0, times, counted) for way in ways]
    rows[0]["cache_bytes"] = cache.bytes / len(cache.steps)
    for share in shares:
        with Operations() as work:
            answer = sparse(share)
        counted[_name(share)], expected = work.total, dense(guides[share])
        moved = float((expected - original).square().mean().sqrt())
        error = float((answer - expected).square().mean().sqrt()) / moved
        rows.append(_row(_name(share), computed[share], times, counted) | {"share": share, "error": error})
    return rows


def markdown(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """The table of one network."""
    lines = [HEAD.split(" | "), ["---"] + ["--:"] * HEAD.count(" | ")]
    for row in rows:
        error = f"{row['error']:.2f}" if "error" in row else "-"
        amounts = (f"{row['computed']:.0%}", f"{row['operations'] / 1e9:.3g}", f"{row['fewer']:.2f}")
        lines.append([row["edited"], *amounts, f"{row['ms']:.0f}", f"{row['faster']:.2f}", error])
    megabytes = rows[0]["cache_bytes"] / 1e6
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"### {name}\n\n{table}\n\nThe original's maps take {megabytes:.0f} MB for each step."


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, and write the figures down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sparse", description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=("stickers", "sd15"), default=["stickers", "sd15"])
    parser.add_argument("--width", type=float, default=1.0, help="factor on the channels of sd15")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of sd15's race; stickers get 20 times")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "sparse.json")
    parser.add_argument("--markdown", type=Path, help="page to write into, such as docs/benchmarks.md")
    asked = parser.parse_args(arguments)
    found, tables = {}, []
    with torch.no_grad():
        for network in asked.networks:
            if network == "stickers":
                model = load("stickers")
                name = "Stickers"
                rows = measure(model.unet, model.schedule, model.tokens, 20 * asked.rounds)
            else:
                name = f"Stable Diffusion 1.5's shape, {asked.width:g} times its width"
                rows = measure(sd15(asked.width), Schedule.from_config(SD15), 77, asked.rounds)
            found[name] = rows
            tables.append(markdown(name, rows))
            print(tables[-1], end="\n\n", flush=True)
    report.write_json(asked.json, found)
    if asked.markdown:
        report.write_page(asked.markdown, "\n\n".join(tables), "sparse")


def _name(share: float) -> str:
    return f"{share:.0%}"


def _row(
    name: str, computed: float, times: dict[str, list[float]], counted: dict[str, int]
) -> dict[str, Any]:
    return {
        "edited": name,
        "computed": computed,
        "operations": counted[name],
        "fewer": counted[DENSE] / counted[name],
        "ms": milliseconds(times, name),
        "faster": ratio(times, DENSE, name),
        "seconds": times[name],
    }


if __name__ == "__main__":
    main()
