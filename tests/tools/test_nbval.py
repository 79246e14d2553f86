"""The root conftest.py: a notebook that should fail fails, and only a sound run leaves an executed copy."""

import json
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import notebooks
from tools.notebooks import ROOT, StaleNotebook, executed_copy


@pytest.fixture
def place(tmp_path):
    """An empty course with the real conftest.py."""
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "course").mkdir()
    (tmp_path / "course" / "method.py").write_text("x = 1\n")
    notebooks.library_digest.cache_clear()
    return tmp_path


def write(place, name, *cells):
    path = place / "notebooks" / "0_start" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    code = [new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Title"), *code]), path)
    return path


@pytest.fixture
def run(place, outside):
    """Runs the notebooks of the empty course under nbval."""
    fixed = "--nbval-lax --nbval-current-env --nbval-cell-timeout 60 -p no:cacheprovider -rA"

    def run(*options):
        dump = ["--nb-dump", "build/executed"]
        command = [sys.executable, "-m", "pytest", *fixed.split(), *dump, *options, "notebooks"]
        environment = outside | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)

    return run


def test_a_sound_notebook_leaves_one_fresh_copy(place, run):
    path = write(
        place,
        "good",
        "import os\nprint(os.environ['COURSE_BUILD'], os.environ['HF_HUB_OFFLINE'])",
        "7;",
        "6 * 7",
        new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]}),
        new_code_cell("import time; time.sleep(0.1)", metadata={"tags": ["timeout-5"]}),
    )
    done = run("-n", "2", "--dist", "loadfile")
    assert done.returncode == 0, done.stdout
    copy = executed_copy(path, place)
    printed, silenced, number, error, _ = (cell.outputs for cell in copy.cells[1:])
    assert printed[0].text.split() == [str(place / "build"), "1"]
    assert silenced == [] and number[0].data["text/plain"] == "42" and error[0].ename == "ZeroDivisionError"
    times = json.loads((place / "build" / "executed" / "times.json").read_text())
    assert times == {"notebooks/0_start/good.ipynb": copy.metadata["course"]["seconds"]}
    assert not list(place.rglob("*.partial"))


def test_a_copy_is_refused_once_its_notebook_or_the_library_changes(place, run):
    path = write(place, "good", "1")
    with pytest.raises(StaleNotebook, match="does not exist"):
        executed_copy(path, place)
    assert run().returncode == 0
    executed_copy(path, place)
    (place / "course" / "method.py").write_text("x = 2\n")
    notebooks.library_digest.cache_clear()
    with pytest.raises(StaleNotebook, match="other sources"):
        executed_copy(path, place)
    (place / "course" / "method.py").write_text("x = 1\n")
    notebooks.library_digest.cache_clear()
    write(place, "good", "2")
    with pytest.raises(StaleNotebook, match="other sources"):
        executed_copy(path, place)


def test_a_failing_notebook_stops_at_its_failure_and_leaves_no_copy(place, run):
    write(place, "fails", "x = 1", "assert x == 2", "undefined")
    write(place, "quiet", new_code_cell("1", metadata={"tags": ["raises-exception"]}))
    write(place, "slow", new_code_cell("import time; time.sleep(30)", metadata={"tags": ["timeout-1"]}), "1")
    write(place, "widget", "import ipywidgets\nipywidgets.interact(lambda x: 1 / 0, x=3)")
    done = run()
    failed = {
        line.split()[1].split("/")[-1] for line in done.stdout.splitlines() if line.startswith("FAILED")
    }
    assert done.returncode == 1
    assert failed == {"fails.ipynb::Cell", "quiet.ipynb::Cell", "slow.ipynb::Cell", "widget.ipynb::Cell"}
    assert "cell 1 of this notebook failed" in done.stdout and "nothing was raised" in done.stdout
    assert "NameError" not in done.stdout
    assert not list(place.glob("build/executed/**/*.ipynb"))


def test_part_of_a_notebook_leaves_no_copy(place, run):
    write(place, "good", "1", "2")
    assert run("--deselect", "notebooks/0_start/good.ipynb::Cell 1").returncode == 0
    assert not list(place.glob("build/executed/**/*.ipynb"))


def test_cells_of_one_notebook_are_never_spread_over_workers(place, run):
    write(place, "good", "1", "2")
    done = run("-n", "2")
    assert done.returncode != 0 and "--dist loadfile" in done.stdout + done.stderr


def test_no_notebook_at_all_is_a_failure(place, run):
    (place / "notebooks").mkdir()
    assert run().returncode != 0
