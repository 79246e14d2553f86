"""Two plain DDIM walks beside each other."""

from course.core.sampling import ddim_step

CHECK = "step_order"
SAYS = "plain DDIM"


def pair_down(denoise, x, y, t, s, schedule):
    x, y = (ddim_step(schedule, each, denoise(each, t), t, s).x_s for each in (x, y))
    return x, y
