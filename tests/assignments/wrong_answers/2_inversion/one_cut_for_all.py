"""One cut for the whole batch, as diffusers has it."""

CHECK = "otsu_pictures"
SAYS = "a cut of its own"


def otsu_mask(contrast):
    values, best, theta = contrast.flatten().sort().values, 0.0, contrast.max()
    for k in range(1, len(values)):
        score = float(k * (len(values) - k) * (values[k:].mean() - values[:k].mean()) ** 2)
        if values[k] > values[k - 1] and score > best:
            best, theta = score, values[k - 1]
    return (contrast > theta).to(contrast)
