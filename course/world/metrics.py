"""How good is an edit? Measured against the truth, which this world knows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from skimage.metrics import structural_similarity
from torch import Tensor

from course.world.recogniser import Reading, Recogniser, reading
from course.world.scene import Scene
from course.world.tasks import EditTask


def as_array(image: Tensor | ArrayLike) -> NDArray[np.float64]:
    """One picture as [h w 3] in [0, 1], from uint8 [h w 3] or a tensor [3 h w] or [1 3 h w] in [-1, 1]."""
    if isinstance(image, Tensor):
        image = image.detach().cpu().float()
        image = image[0] if image.ndim == 4 and len(image) == 1 else image
        if image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(f"one picture of shape [3 h w] is needed, got {list(image.shape)}")
        return ((image.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).double().numpy()
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(
            f"a picture must be uint8 [h w 3] or a tensor [3 h w], got {array.dtype} {array.shape}"
        )
    return array / 255.0


def as_tensor(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Pictures uint8 [64 64 3] as one tensor, float [n 3 64 64] in [-1, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def psnr(a: Tensor | ArrayLike, b: Tensor | ArrayLike, mask: ArrayLike | None = None) -> float:
    """Peak signal-to-noise ratio in decibels, over the pixels where `mask` [h w] is true, or over all.

    infinite for equal pictures. Raises ValueError for pictures of different sizes or an empty mask.
    """
    x, y = as_array(a), as_array(b)
    if x.shape != y.shape:
        raise ValueError(f"pictures must be of one size, got {x.shape} and {y.shape}")
    error = (x - y) ** 2
    if mask is not None:
        where = _mask_of(mask, x)
        if not where.any():
            raise ValueError("the mask chooses no pixel: there is nothing to compare")
        error = error[where]
    mse = float(error.mean())
    return float("inf") if mse == 0 else -10 * float(np.log10(mse))


def ssim(a: Tensor | ArrayLike, b: Tensor | ArrayLike, mask: ArrayLike | None = None) -> float:
    """Structural similarity (Wang et al. 2004, scikit-image's), averaged over `mask` or over all pixels."""
    x, y = as_array(a), as_array(b)
    _, full = structural_similarity(x, y, channel_axis=2, data_range=1.0, full=True)
    return float(full[_mask_of(mask, x)].mean() if mask is not None else full.mean())


def _mask_of(mask: ArrayLike, image: NDArray[np.float64]) -> NDArray[np.bool_]:
    where = np.asarray(mask.detach().cpu() if isinstance(mask, Tensor) else mask).squeeze() > 0.5
    if where.shape != image.shape[:2]:
        raise ValueError(f"the mask {where.shape} must have the picture's size {image.shape[:2]}")
    return where


def mask_iou(a: ArrayLike, b: ArrayLike) -> float:
    """Intersection over union of two masks; 1 if both are empty."""
    x, y = (np.asarray(m.detach().cpu() if isinstance(m, Tensor) else m).squeeze() > 0.5 for m in (a, b))
    if x.shape != y.shape:
        raise ValueError(f"masks must be of one size, got {x.shape} and {y.shape}")
    union = int((x | y).sum())
    return 1.0 if union == 0 else int((x & y).sum()) / union


def agreement(read: Reading, scene: Scene) -> dict[str, bool]:
    """Which facts a reading has right: kind and colour (all stickers, in their places), background, style."""
    true = reading(scene)
    same = len(read.stickers) == len(true.stickers)
    pairs = list(zip(read.stickers, true.stickers, strict=False)) if same else []
    return {
        "kind": same and all(a[0] == b[0] for a, b in pairs),
        "colour": same and all(a[1] == b[1] for a, b in pairs),
        "background": read.background == true.background,
        "style": read.style == true.style,
    }


def prompt_accuracy(recogniser: Recogniser, images: Tensor, scenes: Sequence[Scene]) -> dict[str, float]:
    """Share of pictures whose kind, colour, background, style, and all of them, are the scene's."""
    if len(images) != len(scenes):
        raise ValueError(f"{len(images)} pictures for {len(scenes)} scenes: give one for each")
    marks = [agreement(read, scene) for read, scene in zip(recogniser.read(images), scenes, strict=True)]
    share = {key: float(np.mean([mark[key] for mark in marks])) for key in marks[0]}
    return {**share, "all": float(np.mean([all(mark.values()) for mark in marks]))}


@dataclass(frozen=True)
class EditScore:
    """How well an edit went.

    success: the recogniser reads the target scene; kept: likeness to the source outside the mask, in decibels
    and SSIM, nan when all may change; target: likeness to the true result, in decibels.
    """

    success: bool
    kept_psnr: float
    kept_ssim: float
    target_psnr: float


def score_edit(recogniser: Recogniser, task: EditTask, image: Tensor) -> EditScore:
    """Measure an edited picture, float [3 64 64] or [1 3 64 64] in [-1, 1], against the task's truth."""
    batch = image if image.ndim == 4 else image[None]
    keep = ~task.mask()
    source = task.source_image()
    success = all(agreement(recogniser.read(batch)[0], task.target).values())
    kept = (
        (psnr(image, source, keep), ssim(image, source, keep)) if keep.any() else (float("nan"), float("nan"))
    )
    return EditScore(success, *kept, psnr(image, task.target_image()))


def frechet_distance(recogniser: Recogniser, a: Tensor, b: Tensor) -> float:
    """Fréchet distance of two sets of pictures, on the recogniser's features (arXiv:1706.08500).

    It has a bias that shrinks with the number of pictures: compare sets of one size only.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"two sets of at least two pictures are needed, got {len(a)} and {len(b)}")
    x, y = (recogniser.features(images.float()).double().numpy() for images in (a, b))
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, vectors = np.linalg.eigh(cov_x)  # silent features make it singular: no sqrtm
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_y @ root).clip(0)).sum()
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cov_x) + np.trace(cov_y) - 2 * cross)
