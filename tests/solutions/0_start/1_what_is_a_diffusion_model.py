"""Solutions of the exercises of notebooks/0_start/1_what_is_a_diffusion_model.ipynb."""


def noise_more(schedule, x_s, s, t, fresh):
    shrink = schedule.signal(t) / schedule.signal(s)
    return shrink * x_s + (1 - shrink**2) ** 0.5 * fresh


def ddpm_step(schedule, x_t, x_0, t, s, fresh):
    a = schedule.signal(t) / schedule.signal(s)
    noise_t, noise_s = schedule.noise(t), schedule.noise(s)
    mean = (schedule.signal(s) * (1 - a**2) * x_0 + a * noise_s**2 * x_t) / noise_t**2
    return mean + noise_s / noise_t * (1 - a**2) ** 0.5 * fresh
