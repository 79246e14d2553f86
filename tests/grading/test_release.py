"""The students' copy: what it keeps, what it must not keep, and nbgrader's opinion."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from authoring import answer, assignment, cell, check, notebook, write

from course.grading.notebooks import read_assignment, without
from course.grading.release import STUB, release

REAL = Path(__file__).parents[2] / "assignments" / "1_noise_editing"


def released(path: Path, folder: Path) -> dict[str, str]:
    copy = nbformat.read(release(path, folder), as_version=4)
    return {c.id: c.source for c in copy.cells}


def test_solutions_hidden_tests_and_outputs_are_gone(tmp_path):
    made = assignment()
    made["cells"][2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "the answer is 42"}]
    made["cells"][2]["execution_count"] = 7
    text = release(write(tmp_path / "a" / "a.ipynb", made), tmp_path / "out").read_text("utf8")
    assert "x * x" not in text and "1522756" not in text and "HIDDEN" not in text and "42" not in text
    copy = nbformat.reads(text, as_version=4)
    sources = {c.id: c.source for c in copy.cells}
    assert sources["square"] == "def square(x):\n    # YOUR CODE HERE\n    raise NotImplementedError()"
    assert sources["square_check"] == 'assert square(3) == 9, "square(3) must be 9"'
    assert all(c.execution_count is None and not c.outputs for c in copy.cells if c.cell_type == "code")
    locked = {c.id: (c.metadata.get("deletable", True), c.metadata.get("editable", True)) for c in copy.cells}
    assert locked["square"] == (False, True) and locked["given"] == locked["apply_check"] == (False, False)


def test_the_real_copy_has_no_line_of_a_solution(tmp_path):
    copy = "\n".join(released(REAL, tmp_path).values())
    source = {c.id: c.source for c in nbformat.read(REAL / "1_noise_editing.ipynb", as_version=4).cells}
    kept = {line.strip() for line in copy.splitlines()}
    for name in ("start-map", "local-strength-edit", "soft-blend", "expected-distance", "strongest"):
        body = source[name].split("### BEGIN SOLUTION")[1].split("### END SOLUTION")[0]
        leaked = [line for line in body.splitlines() if len(line.strip()) > 12 and line.strip() in kept]
        assert not leaked
    assert copy.count(STUB.splitlines()[0]) == 5 and "HIDDEN" not in copy


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (notebook(answer("a", "def a():\n    pass"), check("c", "a()", 1)), "needs 'BEGIN SOLUTION'"),
        (
            notebook(cell("### BEGIN SOLUTION\nx = 1\n### END SOLUTION"), check("c", "x", 1)),
            "not marked as a solution",
        ),
        (
            notebook(answer("a", "### BEGIN SOLUTION\na = 1\n### END SOLUTION"), check("c", "a", 0)),
            "worth points",
        ),
        (notebook(answer("a", "### BEGIN SOLUTION\na = 1\n### END SOLUTION"), check("a", "a", 1)), "unique"),
        (notebook(answer("a", "### BEGIN SOLUTION\na = 1\n### END SOLUTION")), "and a check"),
        (notebook(cell("### BEGIN HIDDEN TESTS\n### END HIDDEN TESTS")), "not marked as a check"),
    ],
)
def test_an_assignment_that_breaks_a_rule_is_refused(broken, rule, tmp_path):
    with pytest.raises(ValueError, match=rule):
        read_assignment(write(tmp_path / "a.ipynb", broken))


def test_marks_come_in_pairs():
    for text in ("BEGIN X\n1", "1\nEND X", "BEGIN X\nBEGIN X\nEND X"):
        with pytest.raises(ValueError, match="BEGIN X"):
            without(text, "BEGIN X", "END X")


def test_an_assignment_is_not_overwritten_by_its_copy(tmp_path):
    path = write(tmp_path / "a.ipynb", assignment())
    before = path.read_bytes()
    with pytest.raises(ValueError, match="another folder"):
        release(tmp_path, tmp_path)
    assert path.read_bytes() == before
    with pytest.raises(FileNotFoundError):
        release(tmp_path / "nowhere", tmp_path / "out")


def test_nbgrader_makes_the_same_copy_and_gives_the_same_points(tmp_path):
    """nbgrader's own generate_assignment and autograde, on the real assignment: our format is its format."""
    source = tmp_path / "source" / "1_noise_editing" / "1_noise_editing.ipynb"
    write(source, json.loads((REAL / "1_noise_editing.ipynb").read_text("utf8")))
    config = f"c = get_config()\nc.CourseDirectory.root = {str(tmp_path)!r}\n"
    config += "c.CourseDirectory.course_id = 'course'\n"
    (tmp_path / "nbgrader_config.py").write_text(config)

    # nbgrader calls alembic by its bare name, as in an activated environment.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def nbgrader(*words):
        command = [sys.executable, "-m", "nbgrader", *words]
        surroundings = {**os.environ, "PATH": path}
        done = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]

    nbgrader("generate_assignment", "1_noise_editing", "--create")
    theirs = nbformat.read(tmp_path / "release" / "1_noise_editing" / "1_noise_editing.ipynb", as_version=4)
    ours = release(REAL, tmp_path / "ours")
    assert [c.source for c in theirs.cells] == list(released(REAL, tmp_path / "ours").values())

    work = nbformat.read(ours, as_version=4)
    solved = {c.id: c.source for c in nbformat.read(source, as_version=4).cells}
    for c in work.cells:
        if c.id in ("start-map", "local-strength-edit", "soft-blend"):
            c.source = solved[c.id]
    sent = tmp_path / "submitted" / "ada" / "1_noise_editing" / "1_noise_editing.ipynb"
    sent.parent.mkdir(parents=True)
    nbformat.write(work, sent)
    patient = ["--ExecutePreprocessor.startup_timeout=300", "--ExecutePreprocessor.iopub_timeout=60"]
    nbgrader("autograde", "1_noise_editing", "--create", "--ExecutePreprocessor.timeout=300", *patient)
    code = "from nbgrader.api import Gradebook\nimport sys\n"
    code += "print(Gradebook(sys.argv[1]).find_submission('1_noise_editing', 'ada').score)"
    database = f"sqlite:///{tmp_path}/gradebook.db"
    command = [sys.executable, "-c", code, database]
    said = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert float(said.stdout) == 16, said.stderr  # all but the last four points, for distance and budget
