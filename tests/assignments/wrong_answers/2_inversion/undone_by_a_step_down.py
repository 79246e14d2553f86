"""The right answers, put into a step in the wrong direction."""

from course.core.sampling import ddim_step

CHECK = "undo"
SAYS = "must come back exactly"


def pair_up(denoise, x, y, t, s, schedule):
    y = ddim_step(schedule, y, denoise(x, s), s, t).x_s
    return ddim_step(schedule, x, denoise(y, s), s, t).x_s, y
