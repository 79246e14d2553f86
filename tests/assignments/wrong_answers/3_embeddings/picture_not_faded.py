"""The noise put on the whole picture, which does not fade."""

CHECK = "levels_noise"
SAYS = "of the picture and noise"


def own_levels(x_0, noises, times, schedule):
    return [*(x_0 + schedule.noise(t) * eps for eps, t in zip(noises, times[:-1], strict=True)), x_0]
