"""A missing browser or sandbox: left out loudly on a reader's machine, a failure in CI."""

import shutil
import subprocess
import sys

import pytest

from tools.notebooks import ROOT

TESTS = """
def test_page(chromium): assert chromium
def test_sandbox(bubblewrap): assert bubblewrap
def test_other(): pass
"""


@pytest.fixture
def bare(tmp_path):
    """A folder of tests with the real tests/conftest.py."""
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_some.py").write_text(TESTS)
    return tmp_path


@pytest.fixture
def run(bare, outside):
    """Runs a Python module where no program is to be found."""

    def run(command, ci):
        environment = outside | {"PYTHONPATH": str(ROOT), "PATH": str(bare), "CI": ci}
        command = [sys.executable, "-m", *command]
        return subprocess.run(command, cwd=bare, env=environment, capture_output=True, text=True)

    return run


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_reader_is_told_what_was_left_out(run, workers):
    done = run(["pytest", "-n", workers, "-p", "no:cacheprovider"], "")
    assert done.returncode == 0 and "1 passed" in done.stdout
    assert "LEFT OUT: 1 tests" in done.stdout and "test_some.py::test_page" in done.stdout
    assert "apt-get install chromium" in done.stdout and "apt-get install bubblewrap" in done.stdout


def test_in_ci_it_fails(run):
    done = run(["pytest", "-p", "no:cacheprovider"], "true")
    assert done.returncode == 1 and "1 passed, 2 errors" in done.stdout


def test_the_last_word_of_make_test(run):
    reader, ci = run(["tools.programs"], ""), run(["tools.programs"], "true")
    assert reader.returncode == 0 and ci.returncode == 1
    assert reader.stdout.count("LEFT OUT") == 2
