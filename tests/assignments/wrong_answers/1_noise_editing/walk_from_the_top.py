"""The whole walk, whatever the strengths: right in the end, and several times as slow."""

from course.core.sampling import blend, last, sample
from course.core.schedule import CLEAN

CHECK = "edit_start"
SAYS = "begins at the largest start time"


def local_strength_edit(denoise, guide, noise, start, times, schedule):
    if int(start.max()) == CLEAN:
        return guide

    def wait(step):
        return blend(step.x_s, schedule.add_noise(guide, noise, step.s), start > step.s)

    x = schedule.add_noise(guide, noise, times[0])
    return last(sample(denoise, x, times, schedule, intervene=wait))
