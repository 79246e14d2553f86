"""The exercises on stochastic refinement: stubs break nothing, solutions pass, typical mistakes do not."""

import pytest

from tests.solutions.exercises import Exercises

LESSON = "4_stochastic_refinement"
EXERCISES = {"ancestral": (LESSON, "exercise-1"), "infinitely_many": (LESSON, "exercise-2")}

LESSONS = Exercises("1_noise_editing", {LESSON: ["toy"]}, EXERCISES)
solution, told = LESSONS.solution, LESSONS.told


def test_every_exercise_has_a_solution():
    assert LESSONS.functions() == set(EXERCISES) == set(MISTAKES)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_stub_is_not_done_yet(name, capsys):
    assert "not done yet" in told(name, LESSONS.stub(name), capsys)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_passes(name, capsys):
    assert "Right" in told(name, solution(name), capsys)


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


@pytest.mark.parametrize(
    ("name", "answer"),
    [(name, answer) for name, answers in MISTAKES.items() for answer in answers],
    ids=lambda part: getattr(part, "__name__", part),
)
def test_a_typical_mistake_is_caught(name, answer, capsys):
    with pytest.raises(AssertionError):
        told(name, answer, capsys)
