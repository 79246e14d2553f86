"""Solutions of the exercises in notebooks/1_noise_editing/1_sdedit.ipynb."""

import numpy as np
from PIL import Image
from scipy.ndimage import median_filter


def share_after(repeats, signal, noise, std):
    believed = (signal * std) ** 2 / ((signal * std) ** 2 + noise**2)
    return believed**repeats


def simulated_strokes(pixels):
    smooth = median_filter(pixels, size=(7, 7, 1))
    return np.array(Image.fromarray(smooth).quantize(6).convert("RGB"))
