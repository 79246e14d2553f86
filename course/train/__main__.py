"""`python -m course.train`: train everything the course ships, from nothing, or what is named.

A run that is stopped, however rudely, goes on from its last checkpoint when the same command is given again.
Several processes: `accelerate launch --num_processes 2 -m course.train denoiser`.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from course.train import (
    autoencoder,
    denoiser,
    domains,
    export,
    instruct_pix2pix,
    palette,
    recogniser,
    refinement,
    report,
    text,
)

STAGES = (
    "autoencoder",
    "text",
    "recogniser",
    "denoiser",
    "domains",
    "palette",
    "refinement",
    "instruct_pix2pix",
    "instruct_pix2pix_true",
    "report",
)
WEIGHTS = Path(__file__).parents[1] / "weights"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m course.train", description=__doc__)
    parser.add_argument(
        "stages", nargs="*", metavar="stage", help=f"of {', '.join(STAGES)}; all if none is named"
    )
    parser.add_argument("--folder", type=Path, default=Path("build/training"), help="checkpoints and logs")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where finished weights go")
    parser.add_argument("--steps", action="append", default=[], metavar="STAGE=N", help="steps of a stage")
    parser.add_argument("--threads", type=int, help="threads of one process")
    parser.add_argument(
        "--prompts",
        type=int,
        default=512,
        help="prompts of each kind that the report measures; 0 keeps the scores and renews the card",
    )
    found = parser.parse_args()
    if unknown := set(found.stages) - set(STAGES):
        parser.error(f"unknown stage {', '.join(sorted(unknown))}: choose from {', '.join(STAGES)}")
    found.stages = found.stages or list(STAGES)
    try:
        found.steps = {name: int(n) for name, n in (item.split("=") for item in found.steps)}
    except ValueError:
        parser.error(f"--steps takes STAGE=N, such as denoiser=20000; got {found.steps}")
    if unknown := set(found.steps) - set(STAGES[:-1]):
        parser.error(f"--steps names no stage that trains: {', '.join(sorted(unknown))}")
    return found


def _frozen(model: Any) -> Any:
    return model.float().eval().requires_grad_(False)


def main() -> None:
    """Run the stages asked for, in order, each from the finished weights of those before it."""
    asked = _arguments()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    asked.out.mkdir(parents=True, exist_ok=True)
    work = asked.folder
    tokenizer = text.make_tokenizer()

    def steps(stage: str) -> dict[str, Any]:
        return {"steps": asked.steps[stage]} if stage in asked.steps else {}

    if "autoencoder" in asked.stages:
        autoencoder.train(work, **steps("autoencoder")).save_pretrained(work / "vae")
    if "text" in asked.stages:
        export.save_clip(asked.out / "clip", text.train(work, **steps("text")), tokenizer)
    if "recogniser" in asked.stages:
        vae = _frozen(AutoencoderKL.from_pretrained(work / "vae"))
        trained = recogniser.train(work, vae, **steps("recogniser"))
        export.save_recogniser(asked.out / "recogniser.safetensors", trained)
    if "denoiser" in asked.stages:
        vae = _frozen(AutoencoderKL.from_pretrained(work / "vae"))
        unet, encoder = denoiser.train(work, vae, tokenizer, **steps("denoiser"))
        export.save_pipeline(asked.out / "stickers", vae, encoder, tokenizer, unet)
    if "domains" in asked.stages:
        vae = _frozen(AutoencoderKL.from_pretrained(work / "vae"))
        for style in domains.SEEDS:
            domains.save_domain(
                asked.out / "domains" / style, domains.train(work, vae, style, **steps("domains"))
            )
    if "palette" in asked.stages:
        start = palette.train_start(work, **steps("palette"))
        for net in palette.NETS:
            palette.save_palette(asked.out / "palette" / net, palette.train(work, net, start))
    if "refinement" in asked.stages:
        refinement.save_refinement(asked.out / "refinement", refinement.train(work, **steps("refinement")))
    for stage in instruct_pix2pix.STAGES:
        if stage in asked.stages:
            instruct_pix2pix.run(stage, work, asked.out, **steps(stage))
    if "report" in asked.stages:
        report.write(asked.out, work, asked.prompts)


if __name__ == "__main__":
    main()
