"""The plain blend, which leaves too little noise half way."""

from course.core.sampling import blend

CHECK = "soft_noise"
SAYS = "0\\.7\\d times the noise"


def soft_blend(step, guide, noise, mask, schedule):
    return blend(step.x_s, schedule.add_noise(guide, noise, step.s), mask)
