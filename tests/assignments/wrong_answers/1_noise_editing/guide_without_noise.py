"""The walk begins with the clean guide, which the network takes for a noisy one."""

from course.core.sampling import blend, last, sample
from course.core.schedule import CLEAN

CHECK = "edit_start"
SAYS = "begins with the guide noised to its first time"


def local_strength_edit(denoise, guide, noise, start, times, schedule):
    first = times.index(int(start.max()))
    if times[first] == CLEAN:
        return guide

    def wait(step):
        return blend(step.x_s, schedule.add_noise(guide, noise, step.s), start > step.s)

    return last(sample(denoise, guide, times[first:], schedule, intervene=wait))
