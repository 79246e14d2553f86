"""Chapter 0's exercises: the check passes the solution, fails typical mistakes, and lets the stub be."""

import ast
import runpy
from pathlib import Path

import nbformat
import pytest

HERE = Path(__file__).parent
LESSONS = HERE.parents[2] / "notebooks" / "0_start"
SETUP = {"1_what_is_a_diffusion_model": ["schedule"]}  # cells that exercises need, after the imports
MISTAKES = {
    "noise_more": [
        lambda schedule, x_s, s, t, fresh: schedule.add_noise(x_s, fresh, t),  # as if x_s were clean
        lambda schedule, x_s, s, t, fresh: (
            schedule.signal(t) / schedule.signal(s) * x_s + schedule.noise(t) * fresh
        ),
        lambda schedule, x_s, s, t, fresh: x_s + (schedule.noise(t) - schedule.noise(s)) * fresh,
    ],
    "ddpm_step": [
        lambda schedule, x_t, x_0, t, s, fresh: schedule.add_noise(x_0, fresh, s),  # forgets x_t
        lambda schedule, x_t, x_0, t, s, fresh: (
            schedule.signal(s) * x_0
            + schedule.noise(s) * (x_t - schedule.signal(t) * x_0) / schedule.noise(t)
        ),  # eta = 0
    ],
    "between": [
        lambda a, b, share: (1 - share) * a + share * b,
        lambda a, b, share: (1 - share) ** 0.5 * a + share**0.5 * b,  # right at half the way only
    ],
    "scaling_factor": [
        lambda means, log_variances: (1 / means.std()).item(),  # forgets that a draw has noise of its own
        lambda means, log_variances: (means.var() + log_variances.exp().mean()).sqrt().item(),  # upside down
        lambda means, log_variances: (1 / (means.var() + log_variances.mean().exp()).sqrt()).item(),
    ],
    "guided": [
        lambda eps_null, eps_text, w: eps_null + w * (eps_text - eps_null),  # the other convention
        lambda eps_null, eps_text, w: (1 + w) * eps_text + w * eps_null,  # a sign
    ],
    "rescaled": [
        lambda eps_guided, eps_text, share: eps_guided * eps_text.std() / eps_guided.std(),
        lambda eps_guided, eps_text, share: (1 - share) * eps_guided + share * eps_text,
    ],
    "kept_error": [
        lambda edited, source, mask: (((edited - source) ** 2) * (1 - mask)).mean().item(),  # divides by all
        lambda edited, source, mask: (((edited - source) ** 2) * mask).sum().item() / (3 * mask.sum().item()),
    ],
    "interval": [
        lambda differences, draws, generator: (
            differences.quantile(0.025).item(),
            differences.quantile(0.975).item(),
        ),
        lambda differences, draws, generator: (
            differences.mean().item() - differences.std().item(),
            differences.mean().item() + differences.std().item(),
        ),
    ],
}


def solutions(lesson):
    found = runpy.run_path(str(HERE / f"{lesson}.py"))
    return {
        name: value for name, value in found.items() if getattr(value, "__module__", None) == "<run_path>"
    }


EXERCISES = [(path.stem, name) for path in sorted(HERE.glob("[0-9]*.py")) for name in solutions(path.stem)]


def run(lesson, name, answer):
    """Run the exercise's cell with `answer` in the place of the stub, or with the stub itself."""
    cells = {cell.id: cell.source for cell in nbformat.read(LESSONS / f"{lesson}.ipynb", 4).cells}
    cell = next(
        source for id, source in cells.items() if id.startswith("exercise-") and f"def {name}(" in source
    )
    space = {}
    for id in ("imports", *SETUP.get(lesson, [])):
        exec(cells[id], space)
    tree = ast.parse(cell)
    if answer is not None:
        tree.body = [node for node in tree.body if getattr(node, "name", None) != name]
        space[name] = answer
    exec(compile(tree, name, "exec"), space)


@pytest.mark.parametrize(("lesson", "name"), EXERCISES)
def test_the_solution_passes(lesson, name, capsys):
    run(lesson, name, solutions(lesson)[name])
    assert "not done yet" not in capsys.readouterr().out


@pytest.mark.parametrize(("lesson", "name"), EXERCISES)
def test_the_stub_is_not_done_yet(lesson, name, capsys):
    run(lesson, name, None)
    assert "not done yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lesson", "name", "number"),
    [(lesson, name, number) for lesson, name in EXERCISES for number in range(len(MISTAKES[name]))],
)
def test_a_typical_mistake_fails(lesson, name, number):
    with pytest.raises(AssertionError):
        run(lesson, name, MISTAKES[name][number])


def test_every_exercise_has_a_solution():
    cells = [cell for path in LESSONS.glob("*.ipynb") for cell in nbformat.read(path, 4).cells]
    asked = {node.name for cell in cells if cell.id.startswith("exercise-") and cell.cell_type == "code"
             for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef)}  # fmt: skip
    assert asked == {name for _, name in EXERCISES} == set(MISTAKES)
