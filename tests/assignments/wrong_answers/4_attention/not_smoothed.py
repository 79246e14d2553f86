"""The greatest value of the map as it is."""

CHECK = "neglect_peak"
SAYS = "no object yet|smooth each word's map"


def neglect(maps, positions, smooth):
    return (1 - maps[..., positions].amax((1, 2))).amax(-1)
