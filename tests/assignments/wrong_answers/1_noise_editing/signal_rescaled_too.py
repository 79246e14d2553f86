"""Everything divided by the root, so that half way the signal is too strong."""

from course.core.sampling import blend

CHECK = "soft_signal"
SAYS = "only the noise is rescaled"


def soft_blend(step, guide, noise, mask, schedule):
    plain = blend(step.x_s, schedule.add_noise(guide, noise, step.s), mask)
    return plain / (mask**2 + (1 - mask) ** 2).sqrt()
