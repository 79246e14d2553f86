"""One least and one greatest value for the whole batch."""

CHECK = "mask_pictures"
SAYS = "a loud picture must not silence"


def cut_mask(heat, cut):
    return (heat - heat.min() > cut * (heat.max() - heat.min())).to(heat)
