"""Prompt-to-Prompt's own rule: divided by the greatest value alone."""

CHECK = "mask_cut"
SAYS = "the least value becomes 0"


def cut_mask(heat, cut):
    return (heat > cut * heat.amax(1, keepdim=True)).to(heat)
