"""1 taken for keep, as SDEdit's own code has it, in place of 1 = edited."""

CHECK = "soft_edges"
SAYS = "1 = edited"


def soft_blend(step, guide, noise, mask, schedule):
    x_0 = (1 - mask) * step.x_0 + mask * guide
    eps = ((1 - mask) * step.eps + mask * noise) / (mask**2 + (1 - mask) ** 2).sqrt()
    return schedule.add_noise(x_0, eps, step.s)
