"""Both copies step with answers about the old pair: no way back."""

from course.core.sampling import ddim_step

CHECK = "step_order"
SAYS = "about the new x'"


def pair_down(denoise, x, y, t, s, schedule):
    of_y, of_x = denoise(y, t), denoise(x, t)
    return ddim_step(schedule, x, of_y, t, s).x_s, ddim_step(schedule, y, of_x, t, s).x_s
