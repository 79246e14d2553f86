"""The last level kept for CLEAN as well."""

CHECK = "levels_clean"
SAYS = "without any noise"


def own_levels(x_0, noises, times, schedule):
    noised = [schedule.add_noise(x_0, eps, t) for eps, t in zip(noises, times[:-1], strict=True)]
    return [*noised, noised[-1]]
