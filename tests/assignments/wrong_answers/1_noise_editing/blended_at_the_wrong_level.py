"""The guide noised to the level that the step came from, as Blended Diffusion's released code does."""

from course.core.sampling import blend, last, sample
from course.core.schedule import CLEAN

CHECK = "edit_level"
SAYS = "one step too noisy"


def local_strength_edit(denoise, guide, noise, start, times, schedule):
    first = times.index(int(start.max()))
    if times[first] == CLEAN:
        return guide

    def wait(step):
        return blend(step.x_s, schedule.add_noise(guide, noise, step.t), start > step.s)

    x = schedule.add_noise(guide, noise, times[first])
    return last(sample(denoise, x, times[first:], schedule, intervene=wait))
