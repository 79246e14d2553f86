"""x undone first, with the mixed y, as if mixing had been the other way round."""

CHECK = "unmixing"
SAYS = "what was done last is undone first"


def unmix(x, y, p):
    x = (x - (1 - p) * y) / p
    return x, (y - (1 - p) * x) / p
