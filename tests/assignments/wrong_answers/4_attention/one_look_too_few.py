"""The first look taken for the map itself where there are more."""

CHECK = "spread_far"
SAYS = "and no farther"


def spread(cross, self_map, power):
    heard = cross[..., None]
    for _ in range(max(power - 1, 1)):
        heard = self_map @ heard
    return heard[..., 0]
