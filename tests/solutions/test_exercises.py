"""All exercises: the stub breaks nothing, the solution passes, typical mistakes do not."""

from importlib import import_module
from pathlib import Path

import pytest
import torch

from tests.solutions.exercises import Exercises

SETS = {
    path.stem: import_module(f"tests.solutions.mistakes.{path.stem}")
    for path in sorted((Path(__file__).parent / "mistakes").glob("*.py"))
}
ALL = [(name, exercise) for name, each in SETS.items() for exercise in each.CHAPTER.asked]
MISTAKES = [
    (name, exercise, number)
    for name, each in SETS.items()
    for exercise, answers in each.MISTAKES.items()
    for number in range(len(answers))
]


def chapter(name: str) -> Exercises:
    return SETS[name].CHAPTER


@pytest.mark.parametrize("name", SETS)
def test_every_exercise_has_a_solution_and_mistakes(name):
    assert chapter(name).functions() == set(chapter(name).asked) == set(SETS[name].MISTAKES)
    assert all(SETS[name].MISTAKES.values())


def test_every_lesson_s_exercises_are_here():
    """All but those of the opening chapter, which have tests of their own."""
    lessons = {(each.CHAPTER.chapter, lesson) for each in SETS.values() for lesson in each.CHAPTER.before}
    solved = {(path.parent.name, path.stem) for path in Path(__file__).parent.glob("[1-9]_*/*.py")}
    assert lessons == solved


@pytest.mark.parametrize(("name", "exercise"), ALL)
def test_the_stub_is_not_done_yet(name, exercise, capsys):
    told = chapter(name).told(exercise, chapter(name).stub(exercise), capsys)
    assert "not done yet" in told


@pytest.mark.parametrize(("name", "exercise"), ALL)
def test_the_solution_passes(name, exercise, capsys):
    assert "Right" in chapter(name).told(exercise, chapter(name).solution(exercise), capsys)


@pytest.mark.parametrize(("name", "exercise", "number"), MISTAKES)
def test_a_typical_mistake_is_caught(name, exercise, number, capsys):
    with pytest.raises(AssertionError):
        chapter(name).told(exercise, SETS[name].MISTAKES[exercise][number], capsys)


def test_a_border_that_is_no_hole_is_right():
    inversion = SETS["inversion"]
    mask = inversion.CHAPTER.prepared("3_diffedit")["left"]
    right = inversion.CHAPTER.solution("closed")(mask, 1)
    assert torch.equal(inversion.closing_of(border=0.0)(mask, 1), right)
