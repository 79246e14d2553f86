"""Every notebook on disk is run, and is what a lesson should be."""

import re
import subprocess
import sys

import nbformat
import pytest

from tools.lesson_rules import general_problems, lesson_problems
from tools.notebooks import ROOT, lessons, on_disk


def named(path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_there_are_lessons():
    assert lessons(), "no notebook was found below notebooks/"


def test_nbval_runs_exactly_the_notebooks_on_disk():
    makefile = (ROOT / "Makefile").read_text("utf8")
    folders = re.search(r"^NOTEBOOKS := (.+)$", makefile, re.MULTILINE)[1].split()
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--collect-only", "-q", *folders]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    collected = {line.split("::")[0] for line in listed.stdout.splitlines() if ".ipynb::" in line}
    assert listed.returncode == 0, listed.stdout + listed.stderr
    assert collected == {named(path) for path in on_disk()}


@pytest.mark.parametrize("path", on_disk(), ids=named)
def test_notebook(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert list(general_problems(notebook)) == []


@pytest.mark.parametrize("path", lessons(), ids=named)
def test_lesson(path):
    assert list(lesson_problems(nbformat.read(path, as_version=4))) == []
