"""Solutions of the exercises in notebooks/1_noise_editing/2_blended_diffusion.ipynb."""

from itertools import pairwise

from course.core.sampling import blend, ddim_step, noise_like
from course.core.schedule import CLEAN


def by_hand(denoise, source, mask, noise, walk, schedule):
    x = schedule.add_noise(source, noise, walk[0])
    for t, s in pairwise(walk):
        step = ddim_step(schedule, x, denoise(x, t), t, s)
        known = source if s == CLEAN else schedule.add_noise(source, noise, s)
        x = blend(step.x_s, known, mask)
    return x


def listening(denoise, source, mask, walk, schedule, again, generator):
    x = schedule.add_noise(source, noise_like(source, generator), walk[0])
    for t, s in pairwise(walk):
        back = schedule.signal(t) / schedule.signal(s)
        for turn in range(again):
            step = ddim_step(schedule, x, denoise(x, t), t, s)
            fresh = noise_like(source, generator)
            known = source if s == CLEAN else schedule.add_noise(source, fresh, s)
            x = blend(step.x_s, known, mask)
            if turn < again - 1:
                x = back * x + (1 - back**2) ** 0.5 * noise_like(source, generator)
    return x
