"""From a scene to its picture and its ground truth, in whole numbers: the same bytes on every machine."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from course.world.backgrounds import background
from course.world.scene import Scene, Sticker
from course.world.styles import stylise
from course.world.vocabulary import SIZE

Picture = NDArray[np.uint8]  # [64 64 3]
Mask = NDArray[np.bool_]  # [64 64]

_ART = Path(__file__).parent / "art"
_HUE = {
    "red": 0,
    "orange": 28,
    "yellow": 54,
    "green": 125,
    "blue": 215,
    "purple": 275,
    "pink": 325,
}  # degrees
_DARKEST = {
    "orange": 145,
    "yellow": 160,
    "pink": 150,
}  # of 255; else 90: these hues turn brown or olive when dark


def _overlap(size: int) -> NDArray[np.int64]:
    """[size, 64] whole-number weights of area averaging: each row adds up to 64."""
    i, j = np.arange(size)[:, None], np.arange(SIZE)[None]
    return np.clip(np.minimum((i + 1) * SIZE, (j + 1) * size) - np.maximum(i * SIZE, j * size), 0, None)


def _tint(rgb: NDArray[np.int64], colour: str) -> NDArray[np.int64]:
    """Replace the hue, keep the shading: the darkest parts become deep, the lightest pale."""
    light = (rgb @ np.array([299, 587, 114])) // 1000  # luminance, 0..255
    hue, darkest = _HUE[colour], _DARKEST.get(colour, 90)
    light = darkest + light * (240 - darkest) // 255
    strength = 150 if colour == "pink" else 235  # of 255; pink is a pale red
    channels = []
    for shift in (0, 240, 120):  # red, green, blue peak at hues 0, 120, 240
        distance = min((hue + shift) % 360, 360 - (hue + shift) % 360)
        level = 255 if distance <= 60 else 0 if distance >= 120 else (120 - distance) * 255 // 60
        channels.append(light * (255 - strength * (255 - level) // 255) // 255)
    out = np.stack(channels, -1)
    return np.minimum(out + np.maximum(light - 200, 0)[..., None], 255)


@lru_cache(maxsize=4096)
def _drawing(kind: str, look: str, size: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Premultiplied colour [size size 3] and alpha [size size 1] of a sticker, 0..255."""
    rgba = np.asarray(Image.open(_ART / f"{kind}.png").convert("RGBA")).astype(np.int64)
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    if look != "natural":
        rgb = _tint(rgb, look)
    weights = _overlap(size).astype(np.float64)  # whole numbers, so that the products below are exact
    layers = np.concatenate([rgb * alpha // 255, alpha], -1).transpose(2, 0, 1).astype(np.float64)
    shrunk = (weights @ layers @ weights.T).transpose(1, 2, 0).astype(np.int64)
    levels: NDArray[np.int32] = ((shrunk + SIZE * SIZE // 2) // (SIZE * SIZE)).astype(np.int32)
    return levels[..., :3], levels[..., 3:]


def _window(sticker: Sticker) -> tuple[slice, slice, slice, slice]:
    """Rows and columns of the picture that a sticker covers, and the same of its drawing."""
    left, top = sticker.corner
    picture = [slice(max(0, o), min(SIZE, o + sticker.size)) for o in (top, left)]
    drawing = [slice(p.start - o, p.stop - o) for p, o in zip(picture, (top, left), strict=True)]
    return picture[0], picture[1], drawing[0], drawing[1]


def _far_to_near(scene: Scene) -> list[int]:
    """Indices of the stickers in the order of drawing: the lower its foot, the nearer a sticker stands."""
    return sorted(
        range(len(scene.stickers)),
        key=lambda i: (sum(scene.stickers[i].corner[1:]) + scene.stickers[i].size, i),
    )


def render(scene: Scene) -> Picture:
    """The scene's picture, uint8 [64 64 3]."""
    canvas = background(scene.background, scene.seed)
    for i in _far_to_near(scene):
        sticker = scene.stickers[i]
        rows, columns, r, c = _window(sticker)
        colour, alpha = _drawing(sticker.kind, sticker.look, sticker.size)
        under = canvas[rows, columns]
        canvas[rows, columns] = colour[r, c] + (under * (255 - alpha[r, c]) + 127) // 255
    return stylise(np.clip(canvas, 0, 255), scene.style).astype(np.uint8)


def render_batch(scenes: list[Scene]) -> NDArray[np.uint8]:
    """The pictures of several scenes, uint8 [n 64 64 3]."""
    return np.stack([render(scene) for scene in scenes])


def silhouette(sticker: Sticker, threshold: int = 128) -> Mask:
    """Where a sticker is at least `threshold` / 255 opaque, bool [64 64], whatever stands before it."""
    out = np.zeros((SIZE, SIZE), bool)
    rows, columns, r, c = _window(sticker)
    out[rows, columns] = _drawing(sticker.kind, sticker.look, sticker.size)[1][r, c, 0] >= threshold
    return out


def masks(scene: Scene) -> NDArray[np.bool_]:
    """The visible pixels of each sticker, bool [n 64 64], in the scene's order."""
    out = np.zeros((len(scene.stickers), SIZE, SIZE), bool)
    for i in _far_to_near(scene):
        shape = silhouette(scene.stickers[i])
        out[:, shape] = False
        out[i] = shape
    return out


def boxes(scene: Scene) -> NDArray[np.int64]:
    """[n 4] boxes (left, top, right, bottom), the last two excluded, around what is visible; 0 if hidden."""
    out = np.zeros((len(scene.stickers), 4), np.int64)
    for box, mask in zip(out, masks(scene), strict=True):
        y, x = np.nonzero(mask)
        if len(y):
            box[:] = x.min(), y.min(), x.max() + 1, y.max() + 1
    return out


def depth(scene: Scene) -> NDArray[np.float32]:
    """Distance from the viewer, float [64 64] in [0, 1]: 1 for the background, by its foot for a sticker."""
    out = np.ones((SIZE, SIZE), np.float32)
    for sticker, mask in zip(scene.stickers, masks(scene), strict=True):
        foot = sticker.corner[1] + sticker.size
        out[mask] = np.clip(1 - foot / (SIZE + 8), 0, 1) * 0.8
    return out


def edges(scene: Scene) -> Mask:
    """The visible outlines, bool [64 64]: pixels whose right or lower neighbour belongs to something else."""
    label = np.zeros((SIZE, SIZE), np.int64)
    for i, mask in enumerate(masks(scene), 1):
        label[mask] = i
    out = np.zeros((SIZE, SIZE), bool)
    out[:, :-1] |= label[:, 1:] != label[:, :-1]
    out[:-1] |= label[1:] != label[:-1]
    return out
