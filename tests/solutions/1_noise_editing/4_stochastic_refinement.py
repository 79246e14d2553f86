"""Solutions of the exercises in notebooks/1_noise_editing/4_stochastic_refinement.ipynb."""


def ancestral(r_t, eps, a_t, a_s, noise):
    r_0 = (r_t - (1 - a_t) ** 0.5 * eps) / a_t**0.5
    variance = (1 - a_s) / (1 - a_t) * (1 - a_t / a_s)
    return a_s**0.5 * r_0 + (1 - a_s - variance) ** 0.5 * eps + variance**0.5 * noise


def infinitely_many(one, mean, n):
    return (n * mean - one) / (n - 1)
