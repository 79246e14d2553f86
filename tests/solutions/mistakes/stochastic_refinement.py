"""The exercises on stochastic refinement, and typical mistakes."""

from tests.solutions.exercises import Exercises

LESSON = "4_stochastic_refinement"
EXERCISES = {"ancestral": (LESSON, "exercise-1"), "infinitely_many": (LESSON, "exercise-2")}

CHAPTER = Exercises("1_noise_editing", {LESSON: ["toy"]}, EXERCISES)
solution = CHAPTER.solution


def without_noise(r_t, eps, a_t, a_s, noise):
    r_0 = (r_t - (1 - a_t) ** 0.5 * eps) / a_t**0.5
    return a_s**0.5 * r_0 + (1 - a_s) ** 0.5 * eps


def noise_on_top(r_t, eps, a_t, a_s, noise):
    variance = (1 - a_s) / (1 - a_t) * (1 - a_t / a_s)
    return without_noise(r_t, eps, a_t, a_s, noise) + variance**0.5 * noise


def the_forward_variance(r_t, eps, a_t, a_s, noise):
    r_0 = (r_t - (1 - a_t) ** 0.5 * eps) / a_t**0.5
    variance = min(1 - a_t / a_s, 1 - a_s)
    return a_s**0.5 * r_0 + (1 - a_s - variance) ** 0.5 * eps + variance**0.5 * noise


def all_fresh_noise(r_t, eps, a_t, a_s, noise):
    r_0 = (r_t - (1 - a_t) ** 0.5 * eps) / a_t**0.5
    return a_s**0.5 * r_0 + (1 - a_s) ** 0.5 * noise


def variance_for_deviation(r_t, eps, a_t, a_s, noise):
    r_0 = (r_t - (1 - a_t) ** 0.5 * eps) / a_t**0.5
    variance = (1 - a_s) / (1 - a_t) * (1 - a_t / a_s)
    return a_s**0.5 * r_0 + (1 - a_s - variance) ** 0.5 * eps + variance * noise


def what_was_measured(one, mean, n):
    return mean


def chance_left_undivided(one, mean, n):
    return mean - one / n


def as_if_all_were_chance(one, mean, n):
    return one / (1 + 1 / n)


def half_of_one(one, mean, n):
    return one / 2


MISTAKES = {
    "ancestral": [
        without_noise,
        noise_on_top,
        the_forward_variance,
        all_fresh_noise,
        variance_for_deviation,
    ],
    "infinitely_many": [what_was_measured, chance_left_undivided, as_if_all_were_chance, half_of_one],
}
