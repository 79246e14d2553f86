"""The exercises on Prompt-to-Prompt, and typical mistakes."""

import torch

from tests.solutions.exercises import Exercises

BEFORE = {"1_prompt_to_prompt": []}  # cells that the exercises need
EXERCISES = {
    "mapper_of": ("1_prompt_to_prompt", "exercise-1"),
    "refined": ("1_prompt_to_prompt", "exercise-2"),
}

CHAPTER = Exercises("4_attention", BEFORE, EXERCISES)
solution = CHAPTER.solution


def the_whole_map_to_each(source, target, n):
    """Every token of the new word gets all of it: attention is made."""
    return (solution("mapper_of")(source, target, n) > 0).float()


def at_the_target_s_place(source, target, n):
    """The authors' error: after the last swapped word, the target's index twice."""
    mapper = solution("mapper_of")(source, target, n)
    last = max(
        (k for k, pair in enumerate(zip(source, target, strict=True)) if pair[0] != pair[1]), default=-1
    )
    j = 1 + sum(target[: last + 1])
    mapper[:, j:] = 0
    mapper[range(j, n), range(j, n)] = 1
    return mapper


def lost_at_the_end(source, target, n):
    mapper = solution("mapper_of")(source, target, n)
    mapper[:, -1] = mapper[:, -1].clamp(max=1) * (mapper[:, -1].cumsum(0) <= 1)
    return mapper


def without_the_start(source, target, n):
    return solution("mapper_of")(source, target, n).roll((-1, -1), (0, 1))


def read_backwards(source, target, n):
    return solution("mapper_of")(target, source, n).T


def last_for_the_new(source, own, source_of):
    """-1 is a position, too, in Python."""
    return source[..., source_of]


def nothing_for_the_new(source, own, source_of):
    return solution("refined")(source, torch.zeros_like(own), source_of)


def in_the_old_order(source, own, source_of):
    return torch.where(source_of >= 0, source, own)


MISTAKES = {
    "mapper_of": [
        the_whole_map_to_each,
        at_the_target_s_place,
        lost_at_the_end,
        without_the_start,
        read_backwards,
    ],
    "refined": [last_for_the_new, nothing_for_the_new, in_the_old_order],
}
