"""The guide is not put back after the last step, so places of strength 0 have changed a little."""

from course.core.sampling import blend, last, sample
from course.core.schedule import CLEAN

CHECK = "edit_release"
SAYS = "put it back after the last step"


def local_strength_edit(denoise, guide, noise, start, times, schedule):
    first = times.index(int(start.max()))
    if times[first] == CLEAN:
        return guide

    def wait(step):
        if step.s == CLEAN:
            return step.x_s
        return blend(step.x_s, schedule.add_noise(guide, noise, step.s), start > step.s)

    x = schedule.add_noise(guide, noise, times[first])
    return last(sample(denoise, x, times[first:], schedule, intervene=wait))
