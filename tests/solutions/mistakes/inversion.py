"""Chapter 2's exercises, and typical mistakes."""

from itertools import pairwise

import torch
from torch.nn.functional import max_pool2d, pad

from course.core.sampling import blend, ddim_step
from course.core.schedule import CLEAN
from tests.solutions.exercises import Exercises

BEFORE = {"1_ddim_inversion": ["toy"], "2_ddib": [], "3_diffedit": ["toy"]}  # cells that the exercises need
EXERCISES = {
    "step_up": ("1_ddim_inversion", "exercise-1"),
    "better_step_up": ("1_ddim_inversion", "exercise-2"),
    "by_rank": ("2_ddib", "exercise-1"),
    "both_maps": ("2_ddib", "exercise-2"),
    "decoded": ("3_diffedit", "exercise-1"),
    "closed": ("3_diffedit", "exercise-2"),
}

CHAPTER = Exercises("2_inversion", BEFORE, EXERCISES)
solution = CHAPTER.solution


def as_invert_does(denoise, x_t, t, s, schedule, tries):
    return ddim_step(schedule, x_t, denoise(x_t, s), t, s).x_s


def never_repeated(denoise, x_t, t, s, schedule, tries):
    return solution("step_up")(denoise, x_t, t, s, schedule, 2)


def asked_at_the_old_time(denoise, x_t, t, s, schedule, tries):
    x_s = x_t
    for _ in range(tries):
        x_s = ddim_step(schedule, x_t, denoise(x_s, max(t, 0)), t, s).x_s
    return x_s


def one_answer(denoise, x_t, t, s, schedule):
    return ddim_step(schedule, x_t, denoise(x_t, max(t, 0)), t, s).x_s


def both_at_the_start(denoise, x_t, t, s, schedule):
    eps = (denoise(x_t, max(t, 0)) + denoise(x_t, s)) / 2
    return ddim_step(schedule, x_t, eps, t, s).x_s


def exact_round_trip(denoise, x_t, t, s, schedule):
    return solution("step_up")(denoise, x_t, t, s, schedule, 40)


def in_sorted_order(values, crowd):
    return crowd.sort().values


def order_taken_for_rank(values, crowd):
    return crowd.sort().values[values.argsort()]


def largest_to_the_smallest(values, crowd):
    return crowd.sort(descending=True).values[values.argsort().argsort()]


def cholesky_roots(c_1, c_2):
    roots = [torch.linalg.cholesky(each) for each in (c_1, c_2)]
    return roots[1] @ torch.linalg.inv(roots[0]), solution("both_maps")(c_1, c_2)[1]


def the_other_way_round(c_1, c_2):
    return solution("both_maps")(c_1, c_2)[::-1]


def the_same_twice(c_1, c_2):
    return (solution("both_maps")(c_1, c_2)[0],) * 2


def from_target_to_source(c_1, c_2):
    return solution("both_maps")(c_2, c_1)


def decoding(level, mask_of=lambda mask: mask, start=lambda levels, walk: levels[walk[0]]):
    def decoded(query, levels, mask, walk, schedule):
        y = start(levels, walk)
        for t, s in pairwise(walk):
            edited = ddim_step(schedule, y, query(y, t), t, s).x_s
            y = blend(edited, levels[level(t, s)], mask_of(mask))
        return y

    return decoded


def closing_of(border):
    def closed(mask, cells):
        grown = max_pool2d(mask, 2 * cells + 1, 1, cells)
        outside = pad(1 - grown, (cells,) * 4, value=border)
        return 1 - max_pool2d(outside, 2 * cells + 1, 1)

    return closed


def only_grown(mask, cells):
    return max_pool2d(mask, 2 * cells + 1, 1, cells)


def opened(mask, cells):
    return 1 - solution("closed")(1 - mask, cells)


def turned_round(mask):
    return 1 - mask


def from_the_clean_picture(levels, walk):
    return levels[CLEAN]


MISTAKES = {
    "step_up": [as_invert_does, never_repeated, asked_at_the_old_time],
    "better_step_up": [one_answer, both_at_the_start, exact_round_trip],
    "by_rank": [in_sorted_order, order_taken_for_rank, largest_to_the_smallest],
    "both_maps": [cholesky_roots, the_other_way_round, the_same_twice, from_target_to_source],
    "decoded": [
        decoding(lambda t, s: t),
        decoding(lambda t, s: s, mask_of=turned_round),
        decoding(lambda t, s: s, start=from_the_clean_picture),
    ],
    "closed": [only_grown, opened, closing_of(border=1.0)],
}
