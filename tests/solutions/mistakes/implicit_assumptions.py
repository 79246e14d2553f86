"""The exercises on TIME, and typical mistakes."""

import torch

from course.attention.implicit_assumptions import edited_projection
from tests.solutions.exercises import Exercises

LESSON = "4_implicit_assumptions"
EXERCISES = {"one_for_all": (LESSON, "exercise-1"), "keeping": (LESSON, "exercise-2")}

CHAPTER = Exercises("4_attention", {LESSON: []}, EXERCISES)
solution = CHAPTER.solution


def transposed(contexts, targets, lam):
    return solution("one_for_all")(contexts, targets, lam).T


def the_other_way_round(contexts, targets, lam):
    return solution("one_for_all")(targets, contexts, lam)


def pulled_to_zero(contexts, targets, lam):
    gram = lam * torch.eye(contexts.shape[1], dtype=contexts.dtype) + contexts.T @ contexts
    return torch.linalg.solve(gram, contexts.T @ targets).T


def without_a_pull(contexts, targets, lam):
    return solution("one_for_all")(contexts, targets, 1e-9)


def nothing_kept(weight, contexts, values, kept, lam):
    return edited_projection(weight, contexts, values, lam)


def sent_to_zero(weight, contexts, values, kept, lam):
    nothing = torch.zeros(len(kept), len(weight), dtype=weight.dtype)
    return edited_projection(weight, torch.cat([contexts, kept]), torch.cat([values, nothing]), lam)


def one_after_the_other(weight, contexts, values, kept, lam):
    first = edited_projection(weight, contexts, values, lam)
    return edited_projection(first, kept, kept @ weight.T, lam)


def nothing_edited(weight, contexts, values, kept, lam):
    return edited_projection(weight, kept, kept @ weight.T, lam)


MISTAKES = {
    "one_for_all": [transposed, the_other_way_round, pulled_to_zero, without_a_pull],
    "keeping": [nothing_kept, sent_to_zero, one_after_the_other, nothing_edited],
}
