"""Solutions of the exercises in notebooks/2_inversion/1_ddim_inversion.ipynb."""

from course.core.sampling import ddim_step


def step_up(denoise, x_t, t, s, schedule, tries):
    x_s = x_t
    for _ in range(tries):
        x_s = ddim_step(schedule, x_t, denoise(x_s, s), t, s).x_s
    return x_s


def better_step_up(denoise, x_t, t, s, schedule):
    start = denoise(x_t, max(t, 0))
    end = denoise(ddim_step(schedule, x_t, start, t, s).x_s, s)
    return ddim_step(schedule, x_t, (start + end) / 2, t, s).x_s
