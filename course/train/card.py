"""The words of the model card, and its tables; `course.train.report` fills in what it measured."""

import hashlib
from pathlib import Path

import torch

CARD = """# Model card: the sticker model

A small latent diffusion model of the classes of Stable Diffusion 1.x, trained on the sticker world
of this package (`course.world`) and on nothing else.
`diffusers.StableDiffusionPipeline.from_pretrained` opens the folder `stickers`. Measured {today} by
`python -m course.train report`.

![Pictures drawn from 24 prompts that no tuning saw](samples.png)

Rows: one sticker, one sticker, two stickers, one sticker in a combination held out of training.

## Parts

| part | class | parameters |
|---|---|---|
| denoiser | `UNet2DConditionModel`, 16 x 16 x 8 latents, cross-attention at 16 x 16 and 8 x 8 | {unet} |
| autoencoder | `AutoencoderKL`, 64 x 64 pixels to 16 x 16 x 8 latents | {vae} |
| text encoder | `CLIPTextModel`, trained with the denoiser | {text} |
| `clip` | a `CLIPModel` of its own, for the course's CLIP score | |
| `domains/photo`, `domains/sketch` | `UNet2DConditionModel`, of one style each, no text | {domain} each |
| `palette/*` | `UNet2DModel` over patches of 2 x 2 pixels, six of them, no text | {palette} each |
| `refinement/*` | convolutions alone: a predictor, and a denoiser of its residual | {refinement} |
| `instruct_pix2pix/*` | denoiser and text encoder, taught by drawn or by true pairs | {instruct} each |
| `recogniser.safetensors` | `course.world.recogniser.Recogniser`, the measuring instrument | |

## Data and recipe

Scenes of up to two stickers drawn by `course.world.scenes` with seeds below 1,000; one (kind,
colour, background) in eleven is held out of all training. What reads pictures (autoencoder, CLIP,
recogniser) saw stickers of one more size and in many more places than the denoiser did: a prompt
says neither. Reports use seeds from 1,000 up. The art is Noto Emoji (see `course/world/art`).

Everything is made by `python -m course.train`, in float32 on a CPU or in what `accelerate` chooses
elsewhere: the autoencoder (L1, L2, edges, a little KL), CLIP (contrastive, with one-word-changed
captions as extra wrong answers), the recogniser, and the denoiser with its text encoder (v
prediction, min-SNR weights, one caption in ten empty; Muon, averaged weights).
The two domains' models, of pictures in one style each, share nothing but the autoencoder and the
schedule. Palette's six and the pair of stochastic refinement learn in pixels, with Muon too; the two
of InstructPix2Pix go on from the denoiser and its text encoder. The seeds are in the code. Steps
taken: {steps}.

![Training losses](losses.png)

## Scores

{prompts} prompts of each kind, {sampling} DDIM steps, guidance scale {guidance}, read by the
recogniser. For two stickers a kind or colour counts only if both are right and in the right places.

{table}

## Limits

It draws stickers and nothing else. Words outside its vocabulary are an error.

## Files

{hashes}
"""


def size_of(model: torch.nn.Module) -> str:
    """How many parameters."""
    return f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M"


def digest(file: Path) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def hashes(weights: Path) -> str:
    """A table of all files of weights."""
    rows = [
        f"| `{file.relative_to(weights)}` | {file.stat().st_size / 2**20:.2f} | `{digest(file)}` |"
        for file in sorted(weights.rglob("*.safetensors"))
    ]
    return "\n".join(["| file | MiB | SHA-256 |", "|---|---|---|", *rows])


def table_of(figures: dict[str, dict[str, float]]) -> str:
    """A table of all figures."""
    rows = ["| what | figure | reached |", "|---|---|---|"]
    for group, values in figures.items():
        for name, value in values.items():
            shown = f"{value:.2f}" if "dB" in name or "distance" in name else f"{100 * value:.1f} %"
            rows.append(f"| {group} | {name} | {shown} |")
    return "\n".join(rows)
