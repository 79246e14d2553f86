"""`>=` for `>`: a place goes with the step that arrives at its start time, one too many."""

from course.core.sampling import blend, last, sample
from course.core.schedule import CLEAN

CHECK = "edit_release"
SAYS = "had already moved"


def local_strength_edit(denoise, guide, noise, start, times, schedule):
    first = times.index(int(start.max()))
    if times[first] == CLEAN:
        return guide

    def wait(step):
        return blend(step.x_s, schedule.add_noise(guide, noise, step.s), start >= step.s)

    x = schedule.add_noise(guide, noise, times[first])
    return last(sample(denoise, x, times[first:], schedule, intervene=wait))
