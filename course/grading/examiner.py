"""Examine one submission: its notebook runs in the sandbox, the checks run here, and only values pass.

A check is the assignment's own cell, run in this process, which no student's code ever enters. The names that
the solutions define are fetched from the student's process: values are copied, functions are called over
there. So a student's code sees neither checks nor solutions, and nothing that it prints, patches, redefines
or raises can award a point; it can only return the right values.

Started by `grade` as `python -m course.grading.examiner`: a job as JSON on its input, a record on its output.
"""

import base64
import contextlib
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from course.grading.limits import Limits
from course.grading.notebooks import BEGIN_HIDDEN, END_HIDDEN, Cell, answer_names, read_submission, without
from course.grading.sandbox import Isolation
from course.grading.session import GRACE, GradingFailed, Session
from course.grading.watch import Watch, adopt_orphans
from course.grading.wire import KNOWN_ERRORS, Gone, RemoteError

CHECK = "<check {}>"  # the file name under which a check is compiled


def merge(assignment: Sequence[Cell], submission: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """The code cells to run, in the student's order, and remarks on what is missing, doubled or changed.

    Cells are matched by grade_id. The course's own cells are put back as they were; a student's copies of
    checks are not run at all; every other cell runs where it stands, known or not.
    """
    ours = {cell.grade_id: cell for cell in assignment if cell.role and cell.kind == "code"}
    to_run: list[Cell] = []
    seen: list[str] = []
    notes: list[str] = []
    for cell in submission:
        if cell.kind != "code":
            continue
        own = ours.get(cell.grade_id)
        if own and cell.grade_id in seen:
            notes.append(f"cell {cell.grade_id} is there more than once")
        if own and own.role != "solution":
            if cell.source.strip() != without(own.source, BEGIN_HIDDEN, END_HIDDEN).strip():
                notes.append(f"cell {cell.grade_id} was changed; the assignment's own is used")
            if own.role == "given" and cell.grade_id not in seen:
                to_run.append(own)
        else:
            to_run.append(cell)
        seen.append(cell.grade_id)
    missing = [cell for grade_id, cell in ours.items() if grade_id not in seen]
    for cell in missing:
        back = "" if cell.role == "solution" else "; it is put back"
        notes.append(f"cell {cell.grade_id} is missing{back}")
    return [cell for cell in missing if cell.role == "given"] + to_run, list(dict.fromkeys(notes))


class Checks:
    """The assignment's checks and the namespace in which they run."""

    def __init__(self, assignment: Sequence[Cell], limits: Limits) -> None:
        self.cells = [cell for cell in assignment if cell.role == "check"]
        self.names = answer_names(assignment)
        self.limits = limits
        self.space: dict[str, Any] = {"__name__": "__checks__"}
        for cell in assignment:
            if cell.role == "given" and cell.kind == "code":
                try:
                    self.run(cell)
                except Exception as error:
                    raise GradingFailed(f"the assignment's cell {cell.grade_id} fails: {error!r}") from error

    def run(self, cell: Cell) -> None:
        """Run one cell of the assignment, at most as long as a student's call may take and a little more."""
        with _alarm(self.limits.cell_seconds + 2 * GRACE), contextlib.redirect_stdout(io.StringIO()):
            exec(compile(cell.source, CHECK.format(cell.grade_id), "exec"), self.space)

    def examine(self, cell: Cell, session: Session) -> dict[str, Any]:
        """Whether a check passes, and what to tell the student where it does not."""
        try:
            self.fetch(session)
            session.begin_check()
            self.run(cell)
            session.confirm()
            message = ""
        except Gone as gone:
            message = f"Your notebook's process ended: {session.why(gone)}."
            session.close()
        except GradingFailed:
            raise
        except NotImplementedError:
            message = "Not answered yet."
        except Exception as error:
            message = explain(error, cell, self.names)[:2000]
        passed, points = not message, 0.0 if message else cell.points
        result = {"id": cell.grade_id, "points": points, "of": cell.points}
        return {**result, "passed": passed, "message": message}

    def fetch(self, session: Session) -> None:
        """Bring the student's names up to date. What died before this check is not held against it."""
        for attempt in (1, 2):
            session.ready()
            try:
                for name in self.names:
                    self.space.pop(name, None)
                    with contextlib.suppress(RemoteError):
                        self.space[name] = session.fetch(name)
                return
            except Gone:
                if attempt == 2:
                    raise
                session.close()


def explain(error: Exception, cell: Cell, names: Sequence[str]) -> str:
    """What a failed check tells the student; of the hidden part nothing but its own message."""
    lines = cell.source.split("\n")
    start = next((number for number, line in enumerate(lines, 1) if BEGIN_HIDDEN in line), len(lines) + 1)
    here = CHECK.format(cell.grade_id)
    line = next((f.lineno or 1 for f in traceback.extract_tb(error.__traceback__) if f.filename == here), 1)
    hidden = line >= start
    if isinstance(error, RemoteError) and hidden:  # a name that the student chose could tell what was given
        kind = error.kind if error.kind in {*KNOWN_ERRORS, "TooSlow"} else "an error"
        return f"Your code raised {kind}, on an input that the notebook does not show."
    if isinstance(error, RemoteError):
        return f"Your code raised {error.kind}: {error}".rstrip(": ")
    if isinstance(error, NameError) and error.name in names:
        return f"There is no `{error.name}`: its cell is missing, or fails before it is defined."
    if isinstance(error, AssertionError):
        return str(error) or f"This must hold: {'(not shown)' if hidden else lines[line - 1].strip()}"
    told = type(error).__name__ if hidden else f"{type(error).__name__}: {error}"
    return f"The check could not use what your code returned ({told}). Does it return what the text asks for?"


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: Any) -> None:
        raise Gone("the check took too long")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def examine(
    assignment: Sequence[Cell], data: bytes, limits: Limits, isolation: Isolation, parent: int
) -> dict[str, Any]:
    """The record of one submission.

    Raises ValueError where it cannot be read, GradingFailed where something of ours does not work.
    """
    submission = read_submission(data)
    cells, notes = merge(assignment, submission)
    checks = Checks(assignment, limits)
    watch = Watch(limits, parent, when_orphaned=lambda: os._exit(1))
    session = Session([cell.source for cell in cells], limits, isolation, watch)
    watch.start()
    try:
        results = [checks.examine(cell, session) for cell in checks.cells]
    finally:
        session.close()
    shown = [
        {"code": cell.source, "id": cell.grade_id, "role": cell.role, "output": _bounded(output, limits)}
        for cell, output in zip(cells, session.outputs, strict=True)
    ]
    texts = [
        {"text": cell.source[: limits.output_chars], "id": cell.grade_id}
        for cell in submission
        if cell.kind == "markdown" and cell.role == "solution"
    ]
    return {"checks": results, "notes": notes + session.notes, "cells": shown + texts}


def _bounded(output: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """What a cell showed, cut to size and of the expected types, whatever the student's process claims."""
    shown = output.get("shown")
    pieces = [piece for piece in shown if isinstance(piece, dict)][:50] if isinstance(shown, list) else []
    return {
        "text": str(output.get("text", ""))[: limits.output_chars + 100],
        "error": str(output.get("error", ""))[:100],
        "shown": [
            {kind: str(piece[kind])[: 2**20 if kind == "png" else limits.output_chars]}
            for piece in pieces
            for kind in ("png", "text")
            if kind in piece
        ],
    }


def main() -> None:
    """Read a job, print its record. Standard output is ours alone: what checks print is dropped."""
    job = json.loads(sys.stdin.buffer.read())
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    adopt_orphans()
    assignment = [Cell(**cell) for cell in job["assignment"]]
    limits, isolation = Limits(**job["limits"]), Isolation(**job["isolation"])
    try:
        record = examine(assignment, base64.b64decode(job["submission"]), limits, isolation, job["parent"])
    except ValueError as error:
        record = {"refused": str(error)}
    except GradingFailed as error:
        record = {"failed": str(error)}
    with answer:
        json.dump(record, answer)


if __name__ == "__main__":
    main()
