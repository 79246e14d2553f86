"""The map read the wrong way round: who is looked at hears."""

CHECK = "spread_looks"
SAYS = "is the one that looks"


def spread(cross, self_map, power):
    for _ in range(power):
        cross = (cross[:, None] @ self_map)[:, 0]
    return cross
