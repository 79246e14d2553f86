"""Exercises as the tests run them: the lessons' own cells, with an answer in place of the stub."""

import ast
import runpy
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import pytest

SOLUTIONS = Path(__file__).parent
LESSONS = Path(__file__).parents[2] / "notebooks"


class Exercises:
    """before: for each lesson, the cells that its exercises need. asked: each exercise's lesson and cell.

    given: functions of the exercises' cells that are no exercise.
    """

    def __init__(
        self,
        chapter: str,
        before: Mapping[str, Sequence[str]],
        asked: Mapping[str, tuple[str, str]],
        given: Sequence[str] = (),
    ) -> None:
        self.chapter, self.before, self.asked, self.given = chapter, before, asked, given
        self.cells, self.prepared, self.solution = (
            cache(self._cells),
            cache(self._prepared),
            cache(self._solution),
        )

    def _cells(self, lesson: str) -> dict[str, ast.Module]:
        code = nbformat.read(LESSONS / self.chapter / f"{lesson}.ipynb", as_version=4).cells
        return {cell.id: ast.parse(cell.source) for cell in code if cell.cell_type == "code"}

    def _prepared(self, lesson: str) -> dict[str, Any]:
        """What an exercise finds: the imports, all that the lesson defines, and the cells it needs."""
        names: dict[str, Any] = {}
        _run(self.cells(lesson)["imports"], names)
        found = [node for tree in self.cells(lesson).values() for node in tree.body]
        _run(
            ast.Module([node for node in found if isinstance(node, ast.FunctionDef | ast.ClassDef)], []),
            names,
        )
        for each in self.before[lesson]:
            _run(self.cells(lesson)[each], names)
        return names

    def _solution(self, name: str) -> Callable[..., Any]:
        return runpy.run_path(str(SOLUTIONS / self.chapter / f"{self.asked[name][0]}.py"))[name]

    def stub(self, name: str) -> Callable[..., Any]:
        return self.prepared(self.asked[name][0])[name]

    def told(self, name: str, answer: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> str:
        """What the exercise's cell prints when `answer` stands in the place of the stub."""
        lesson, cell = self.asked[name]
        check = [node for node in self.cells(lesson)[cell].body if getattr(node, "name", None) != name]
        capsys.readouterr()
        _run(ast.Module(check, []), self.prepared(lesson) | {name: answer})
        return capsys.readouterr().out

    def functions(self) -> set[str]:
        """The functions that the lessons' exercise cells define."""
        return {
            node.name
            for lesson in self.before
            for cell, tree in self.cells(lesson).items()
            if cell.startswith("exercise-")
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and node.name not in self.given
        }


def _run(tree: ast.Module, names: dict[str, Any]) -> None:
    exec(compile(tree, "lesson", "exec"), names)
