"""The cut in the widest gap between neighbouring values, however few lie above it."""

import torch

CHECK = "otsu_split"
SAYS = "only the brightest cell is in"


def otsu_mask(contrast):
    masks = []
    for picture in contrast:
        values = picture.flatten().sort().values
        masks.append((picture > values[values.diff().argmax()]).to(contrast))
    return torch.stack(masks)
