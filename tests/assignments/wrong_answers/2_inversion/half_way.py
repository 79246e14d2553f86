"""DiffEdit's own rule, without its care for extremes."""

CHECK = "otsu_split"
SAYS = "half way between the least and the greatest"


def otsu_mask(contrast):
    low, high = contrast.amin((1, 2, 3), keepdim=True), contrast.amax((1, 2, 3), keepdim=True)
    return (contrast > (low + high) / 2).to(contrast)
