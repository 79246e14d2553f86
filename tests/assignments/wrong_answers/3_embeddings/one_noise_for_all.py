"""One noise for all levels, as an image-to-image walk has it."""

CHECK = "levels_noise"
SAYS = "the noise number 1"


def own_levels(x_0, noises, times, schedule):
    return [*(schedule.add_noise(x_0, noises[0], t) for t in times[:-1]), x_0]
