"""One look, whatever the power."""

CHECK = "spread_far"
SAYS = "one look far only"


def spread(cross, self_map, power):
    return (self_map @ cross[..., None])[..., 0]
