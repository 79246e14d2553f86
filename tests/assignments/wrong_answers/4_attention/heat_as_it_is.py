"""The cut taken for the heat as it is."""

CHECK = "mask_cut"
SAYS = "rescale it first"


def cut_mask(heat, cut):
    return (heat > cut).to(heat)
