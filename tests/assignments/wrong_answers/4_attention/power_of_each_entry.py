"""The power of each entry, which only makes near pixels nearer."""

CHECK = "spread_far"
SAYS = "not of each entry"


def spread(cross, self_map, power):
    return (self_map**power @ cross[..., None])[..., 0]
