"""Each rule for notebooks refuses what it should, and a good lesson passes them all."""

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools.lesson_rules import figure_names, general_problems, lesson_problems


def lesson(*extra):
    cells = [
        new_markdown_cell("# How much noise?"),
        new_code_cell("from course.figures import grid\nimport torch"),
        new_code_cell('%time\ngrid(images, alt="a red cat")'),
        new_code_cell("assert 1 + 1 == 2"),
        *(
            new_markdown_cell("Prose, 50 / 50, see https://example.org/home/x and `and/or`.")
            for _ in range(14)
        ),
    ]
    kernel = {"name": "python3", "display_name": "Python 3"}
    return new_notebook(cells=[*cells, *extra], metadata={"kernelspec": kernel})


def problems(notebook):
    return [*general_problems(notebook), *lesson_problems(notebook)]


def test_a_good_lesson_has_no_problems():
    assert problems(lesson()) == []


def test_figures_that_need_a_text_are_known():
    assert {"grid", "filmstrip", "heatmap", "curves", "FrameSlider", "BeforeAfter"} <= figure_names()
    assert "source" not in figure_names()


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        (new_code_cell("x", outputs=[new_output("stream", text="x")]), "stripped"),
        (new_code_cell("x", execution_count=3), "stripped"),
        (new_code_cell("open('/home/me/picture.png')"), "absolute path"),
        (new_code_cell("open('~/picture.png')"), "absolute path"),
        (new_code_cell("open('C:\\\\me')"), "absolute path"),
        (new_code_cell("# NBVAL_SKIP\nx"), "look away"),
        (new_code_cell("x", metadata={"tags": ["nbval-skip"]}), "look away"),
        (new_code_cell("import math"), "one cell"),
        (new_code_cell("x = 1\n" * 26), "more than 25 lines"),
        (new_code_cell("grid(images)"), "grid needs alt="),
        (new_code_cell("figures.heatmap(image, map, alt='')"), "heatmap needs alt="),
        (new_code_cell("if x:\n    import matplotlib.pyplot as plt"), "course.figures"),
        (new_code_cell("if x:\n    from matplotlib import pyplot"), "course.figures"),
    ],
)
def test_a_bad_cell_is_refused(cell, complaint):
    found = problems(lesson(cell))
    assert len(found) == 1 and complaint in found[0]


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda notebook: notebook.cells.pop(0), "title"),
        (lambda notebook: notebook.cells.pop(3), "assert"),
        (lambda notebook: notebook.cells.__delitem__(slice(4, 10)), "16 to 40 cells"),
        (lambda notebook: notebook.cells[1].update(id=notebook.cells[2].id), "id of its own"),
        (lambda notebook: notebook.metadata.kernelspec.update(name="other"), "kernelspec"),
    ],
)
def test_a_bad_notebook_is_refused(spoil, complaint):
    notebook = lesson()
    spoil(notebook)
    found = problems(notebook)
    assert len(found) == 1 and complaint in found[0]
