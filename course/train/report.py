"""Measures the shipped model on prompts it never saw and writes its model card."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel
from PIL import Image
from torch import Tensor

from course.core.model import Model, load
from course.core.sampling import last, sample
from course.figures import curves, grid
from course.train import autoencoder, domains, palette
from course.train.card import CARD, hashes, size_of, table_of
from course.train.data import as_images
from course.train.recogniser import accuracy, held_out_scenes
from course.train.refinement import DENOISER, PREDICTOR, ConvUNet, Refinement
from course.world.captions import caption
from course.world.metrics import frechet_distance, prompt_accuracy
from course.world.recogniser import Recogniser
from course.world.scene import Dice, Scene, sample_scene

GUIDANCE_SCALE = 4.0  # better than 7 on prompts that only tuning saw
STEPS = 30
TRAINED = (
    "autoencoder",
    "text",
    "recogniser",
    "denoiser",
    *(f"domain_{style}" for style in domains.SEEDS),
    *(f"palette_{net}" for net in ("start", *palette.NETS)),
    "refinement",
    "instruct_pix2pix",
    "instruct_pix2pix_true",
)


def report_scenes(n: int, count: int, held_out: bool, seed: int) -> list[Scene]:
    """`n` scenes of one large sticker or of two, that no tuning used; styles as often as in training."""
    dice = Dice(seed)
    found: list[Scene] = []
    while len(found) < n:
        scene = sample_scene(dice, held_out)
        if len(scene.stickers) == count and not (count == 1 and scene.stickers[0].size < 36):
            found.append(scene)
    return found


def draw(
    model: Model, prompts: list[str], seed: int, guidance_scale: float = GUIDANCE_SCALE, steps: int = STEPS
) -> Tensor:
    """One picture for each prompt, float [n 3 64 64], in batches of 32."""
    generator = torch.Generator().manual_seed(seed)
    times, pictures = model.schedule.times(steps), []
    for i in range(0, len(prompts), 32):
        part = prompts[i : i + 32]
        denoise = model.denoiser(part, guidance_scale=guidance_scale)
        pictures.append(
            model.decode(last(sample(denoise, model.noise(len(part), generator), times, model.schedule)))
        )
    return torch.cat(pictures)


def follow(model: Model, recogniser: Recogniser, scenes: list[Scene], seed: int) -> dict[str, float]:
    """How often the pictures drawn from the scenes' captions show what they say."""
    pictures = draw(model, [caption(scene) for scene in scenes], seed)
    return {
        **prompt_accuracy(recogniser, pictures, scenes),
        "frechet distance": frechet_distance(recogniser, pictures, as_images(scenes)),
    }


def measure(weights: Path, prompts: int, show: Callable[[str], None] = print) -> dict[str, dict[str, float]]:
    """Every figure of the model card."""
    model, recogniser = load(weights / "stickers"), Recogniser.load(weights / "recogniser.safetensors")
    checks = held_out_scenes()
    figures = {
        "autoencoder": {"PSNR (dB)": autoencoder.psnr(model.vae)},
        "recogniser": accuracy(recogniser, checks),
        "recogniser through the autoencoder": accuracy(recogniser, checks, model.vae),
    }
    groups = {
        "one sticker": report_scenes(prompts, 1, False, 1101),
        "one sticker, held-out combinations": report_scenes(prompts, 1, True, 1102),
        "two stickers": report_scenes(prompts, 2, False, 1103),
    }
    for name, scenes in groups.items():
        show(f"drawing {len(scenes)} pictures: {name}")
        figures[name] = follow(model, recogniser, scenes, seed=1200)
    return figures


def _log(folder: Path, stage: str) -> list[dict[str, float]]:
    file = folder / f"{stage}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _save_png(data: bytes, file: Path) -> None:
    aside = file.with_suffix(".part")
    aside.write_bytes(data)
    aside.replace(file)


def _samples(model: Model, file: Path) -> None:
    drawn = [
        *report_scenes(12, 1, False, 1301),
        *report_scenes(6, 2, False, 1302),
        *report_scenes(6, 1, True, 1303),
    ]
    prompts = [caption(scene) for scene in drawn]
    pictures = draw(model, prompts, seed=1300)
    alt = "Pictures drawn from 24 unseen prompts: two rows of one sticker, one of two, one held out"
    _save_png(grid(pictures, titles=prompts, columns=6, alt=alt).png, file)


def _logged(folder: Path) -> dict[str, list[dict[str, float]]]:
    return {stage: log for stage in TRAINED if (log := _log(folder, stage))}


def _losses(logs: dict[str, list[dict[str, float]]], file: Path) -> None:
    grids = torch.linspace(0.01, 1, 100).tolist()
    lines = {}
    for stage, log in logs.items():
        losses = [row["loss"] for row in log]
        lines[stage] = [losses[min(len(losses) - 1, int(g * len(losses)))] for g in grids]
    figure = curves(
        grids, lines, xlabel="part of the training run", ylabel="loss", alt="Training losses fall"
    )
    _save_png(figure.png, file)


def write(weights: Path, folder: Path, prompts: int = 512) -> None:
    """Measure, then write README.md, scores.json and two pictures beside the weights.

    prompts: of each kind, to measure on; 0 keeps the scores and the samples that are there, and brings the
    rest of the card up to date. Steps that no log in `folder` tells stay as they were, and so does the
    picture of the losses unless all logs are there. Raises FileNotFoundError for 0 prompts and no scores.
    """
    file, logs = weights / "scores.json", _logged(folder)
    if not (prompts or file.exists()):
        raise FileNotFoundError(f"missing {file}: measure first, with prompts above 0")
    found = json.loads(file.read_text()) if file.exists() else {"steps": {}}
    model = load(weights / "stickers")
    if prompts:
        found |= {"measured": date.today().isoformat(), "prompts": prompts}
        found["figures"] = measure(weights, prompts)
        _samples(model, weights / "samples.png")
    found["steps"] |= {stage: int(log[-1]["step"]) for stage, log in logs.items()}
    if len(logs) == len(TRAINED) or not (weights / "losses.png").exists():
        _losses(logs, weights / "losses.png")
    unet: UNet2DConditionModel = model.unet
    vae: AutoencoderKL = model.vae
    card = CARD.format(
        unet=size_of(unet),
        vae=size_of(vae),
        text=size_of(model.text_encoder),
        domain=size_of(UNet2DConditionModel(**domains.CONFIG)),
        palette=size_of(UNet2DModel(**palette.CONFIG)),
        refinement=size_of(Refinement(ConvUNet(**PREDICTOR), ConvUNet(**DENOISER))),
        instruct=size_of(torch.nn.ModuleList([unet, model.text_encoder])),
        table=table_of(found["figures"]),
        prompts=found["prompts"],
        steps=", ".join(f"{stage} {n:,}" for stage in TRAINED if (n := found["steps"].get(stage))),
        hashes=hashes(weights),
        guidance=GUIDANCE_SCALE,
        sampling=STEPS,
        today=found["measured"],
    )
    for name, text in (("README.md", card), ("scores.json", json.dumps(found, indent=1) + "\n")):
        aside = weights / f"{name}.part"
        aside.write_text(text)
        aside.replace(weights / name)
    Image.open(weights / "samples.png").verify()
