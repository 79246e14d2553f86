"""The eight backgrounds, drawn from smooth noise, in whole numbers."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from course.world.vocabulary import SIZE

Canvas = NDArray[np.int32]  # [64 64 3], 0..255


@lru_cache(maxsize=8)
def _upsample(points: int) -> NDArray[np.float32]:
    """[64, points] linear interpolation, in 64ths: whole numbers, which float32 holds exactly."""
    position = np.arange(SIZE) * (points - 1)
    at, part = position // SIZE, position % SIZE
    out = np.zeros((SIZE, points), np.float32)
    out[np.arange(SIZE), at] = SIZE - part
    out[np.arange(SIZE), at + 1] += part
    return out


def _noise(bits: np.random.PCG64, points: int, amplitude: int) -> Canvas:
    """Smooth noise [64 64 1] of about +-amplitude, from `points` random values a side."""
    raw = bits.random_raw((points * points + 7) // 8).astype("<u8").view(np.uint8)[: points * points]
    grid = raw.reshape(points, points).astype(np.float32) - 128
    up = _upsample(points)
    smooth = (up @ grid @ up.T).astype(np.int32)  # 128 * 64 * 64 at most
    return (smooth * amplitude // (128 * SIZE * SIZE))[..., None]


def _colour(*rgb: int) -> Canvas:
    return np.array(rgb, np.int32)


_Y = np.arange(SIZE, dtype=np.int32)[:, None, None]
_YY, _XX = np.mgrid[0:SIZE, 0:SIZE].astype(np.int32)
_TRIANGLE = (8 - abs(np.arange(16) - 8)).astype(np.int32) - 4  # a wave of period 16, -4..4
_MORTAR = ((_YY % 8 >= 6) | ((_XX + _YY // 8 % 2 * 8) % 16 >= 14))[..., None]
_BRICK = _YY // 8 * 5 + (_XX + _YY // 8 % 2 * 8) // 16  # number of each brick, 0..39
_TILE = ((_YY // 8 + _XX // 8) % 2)[..., None]
_STAR = np.array([[40, 90, 90, 40], [90, 190, 190, 90], [90, 190, 190, 90], [40, 90, 90, 40]], np.int32)[
    ..., None
]


def _night_sky(bits: np.random.PCG64) -> Canvas:
    sky = _colour(16, 20, 62) + _Y * _colour(14, 16, 50) // SIZE + _noise(bits, 5, 12)
    where = bits.random_raw(10)
    for cell in where % 256:  # ten stars, each on a cell of the 16 x 16 grid
        y, x = divmod(int(cell), 16)
        sky[4 * y : 4 * y + 4, 4 * x : 4 * x + 4] += _STAR
    return sky


def _brick_wall(bits: np.random.PCG64) -> Canvas:
    shade = (bits.random_raw(5).astype("<u8").view(np.uint8)[:40] % 32).astype(np.int32)[_BRICK][
        ..., None
    ] - 16
    return np.where(_MORTAR, _colour(202, 192, 182), _colour(166, 78, 58) + shade) + _noise(bits, 5, 10)


def _sea(bits: np.random.PCG64) -> Canvas:
    phase = int(bits.random_raw()) % 4 * 4
    wave = _TRIANGLE[(_YY + phase) % 16][..., None] * 5
    return _colour(40, 118, 190) - _Y * _colour(20, 40, 50) // SIZE + wave + _noise(bits, 5, 14)


def background(name: str, seed: int) -> Canvas:
    """The background's picture, int32 [64 64 3] in 0..255 (before clipping); `seed` draws its texture."""
    bits = np.random.PCG64(seed)
    if name == "grass":
        return _colour(96, 162, 66) + _noise(bits, 17, 20) + _noise(bits, 5, 18)
    if name == "sand":
        return _colour(228, 204, 148) + _noise(bits, 17, 12) + _noise(bits, 5, 12)
    if name == "snow":
        return _colour(232, 240, 250) + _noise(bits, 5, 14)
    if name == "the sea":
        return _sea(bits)
    if name == "a night sky":
        return _night_sky(bits)
    if name == "a brick wall":
        return _brick_wall(bits)
    if name == "a sunset":
        mix = _Y * 256 // SIZE
        return (_colour(252, 150, 64) * (256 - mix) + _colour(118, 52, 122) * mix) // 256 + _noise(
            bits, 5, 20
        )
    tiles = _colour(214, 214, 220) * _TILE + _colour(122, 128, 140) * (1 - _TILE)
    return tiles + _noise(bits, 5, 12)
