"""Both copies mixed at once, so that y' gets the old x."""

CHECK = "mixing"
SAYS = "not with the old x"


def mix(x, y, p):
    return p * x + (1 - p) * y, p * y + (1 - p) * x
