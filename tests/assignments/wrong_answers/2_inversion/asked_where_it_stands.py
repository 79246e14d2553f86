"""Undone with answers at the time that the pair has reached, as DDIB's inversion asks."""

from course.core.sampling import ddim_step

CHECK = "undo"
SAYS = "ask there, not where you are"


def pair_up(denoise, x, y, t, s, schedule):
    y = ddim_step(schedule, y, denoise(x, max(t, 0)), t, s).x_s
    return ddim_step(schedule, x, denoise(y, max(t, 0)), t, s).x_s, y
