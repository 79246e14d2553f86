"""The list ends before CLEAN."""

CHECK = "levels_clean"
SAYS = "CLEAN included"


def own_levels(x_0, noises, times, schedule):
    return [schedule.add_noise(x_0, eps, t) for eps, t in zip(noises, times[:-1], strict=True)]
