"""The exercises of chapter 3: the stub breaks nothing, the solution passes, typical mistakes do not."""

import ast
import runpy
from functools import cache
from pathlib import Path

import nbformat
import pytest

HERE = Path(__file__).parent / "3_embeddings"
LESSONS = Path(__file__).parents[2] / "notebooks" / "3_embeddings"
BEFORE = {"1_imagic": ["toy"], "2_null_text": ["toy", "toy-check"]}  # cells that the exercises need
EXERCISES = {
    "stop_at": ("1_imagic", "exercise-1"),
    "find_text": ("1_imagic", "exercise-2"),
    "null_for": ("2_null_text", "exercise-1"),
    "search": ("2_null_text", "exercise-2"),
}


@cache
def cells(lesson):
    code = nbformat.read(LESSONS / f"{lesson}.ipynb", as_version=4).cells
    return {cell.id: ast.parse(cell.source) for cell in code if cell.cell_type == "code"}


def run(tree, names):
    exec(compile(tree, "lesson", "exec"), names)


@cache
def prepared(lesson):
    """What an exercise finds: the imports, every function that the lesson defines, and the cells it needs."""
    names = {}
    run(cells(lesson)["imports"], names)
    found = [node for tree in cells(lesson).values() for node in tree.body]
    defined = [node for node in found if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    run(ast.Module(defined, []), names)
    for each in BEFORE[lesson]:
        run(cells(lesson)[each], names)
    return names


def told(name, answer, capsys):
    """What the exercise's cell prints when `answer` stands in the place of the stub."""
    lesson, cell = EXERCISES[name]
    check = [node for node in cells(lesson)[cell].body if getattr(node, "name", None) != name]
    capsys.readouterr()
    run(ast.Module(check, []), prepared(lesson) | {name: answer})
    return capsys.readouterr().out


@cache
def solution(name):
    return runpy.run_path(str(HERE / f"{EXERCISES[name][0]}.py"))[name]


def test_every_exercise_has_a_solution():
    asked = {
        node.name
        for lesson in BEFORE
        for cell, tree in cells(lesson).items()
        if cell.startswith("exercise-")
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name != "watched"
    }
    assert asked == set(EXERCISES) == set(MISTAKES)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_stub_is_not_done_yet(name, capsys):
    assert "not done yet" in told(name, prepared(EXERCISES[name][0])[name], capsys)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_passes(name, capsys):
    assert "Right" in told(name, solution(name), capsys)


def half_way(drawn, picture, target):
    return (drawn + target) / 2


def turned_round(drawn, picture, target):
    return drawn * target / picture


def one_time_for_all_rows(predict, x_0, text, steps, lr, batch, generator):
    def told(x_t, t, text):
        return predict(x_t, t[:1].expand(len(t)), text)

    return solution("find_text")(told, x_0, text, steps, lr, batch, generator)


def without_noise(predict, x_0, text, steps, lr, batch, generator):
    return solution("find_text")(
        lambda x_t, t, text: predict(0 * x_t + x_0, t, text), x_0, text, steps, lr, batch, generator
    )


def never_moves(predict, x_0, text, steps, lr, batch, generator):
    return text + 0 * solution("find_text")(predict, x_0, text, steps, lr, batch, generator)


def the_prompt(goal, text, scale):
    return text


def no_scale(goal, text, scale):
    return goal - text


def past_the_pivot(predict, pivot, text, null, schedule, scale, tries, lr):
    """Aims each step at where it comes from."""
    times = list(pivot)
    late = {t: pivot[times[max(i - 1, 0)]] for i, t in enumerate(times)}
    return solution("search")(predict, late, text, null, schedule, scale, tries, lr)


def without_guidance(predict, pivot, text, null, schedule, scale, tries, lr):
    return solution("search")(predict, pivot, text, null, schedule, 0.0, tries, lr)


def one_more_null(predict, pivot, text, null, schedule, scale, tries, lr):
    return solution("search")(predict, pivot, text, null, schedule, scale, tries, lr) | {-1: null}


MISTAKES = {
    "stop_at": [half_way, turned_round],
    "find_text": [one_time_for_all_rows, without_noise, never_moves],
    "null_for": [the_prompt, no_scale],
    "search": [past_the_pivot, without_guidance, one_more_null],
}


@pytest.mark.parametrize(
    ("name", "answer"),
    [(name, answer) for name, answers in MISTAKES.items() for answer in answers],
    ids=lambda part: getattr(part, "__name__", part),
)
def test_a_typical_mistake_is_caught(name, answer, capsys):
    with pytest.raises(AssertionError):
        told(name, answer, capsys)
