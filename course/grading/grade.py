"""Grade a folder of submissions, each on its own, and write down what came of it."""

import base64
import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from course.grading import sandbox
from course.grading.limits import Limits
from course.grading.notebooks import Cell, read_assignment
from course.grading.sandbox import Isolation
from course.grading.submissions import Submission, find, read

VERSION = 1  # of the grader: a record of another version is made anew
MARGIN = 180  # seconds beyond the limit of a submission in which its examiner must have finished by itself
UNSAFE = (
    "ISOLATION WAS OFF ({reason}): students' code ran with your rights, your files and your network. "
    "The limits held, but cheating was possible. On Debian and Ubuntu: apt-get install bubblewrap"
)


@dataclass(frozen=True)
class Job:
    """What is the same for all submissions of a run."""

    notebook: Path
    cells: Sequence[Cell]
    limits: Limits
    isolation: Isolation

    @property
    def digest(self) -> str:
        """Changes with everything but the submission that a result depends on."""
        notebook = sha256(self.notebook.read_bytes()).hexdigest()
        parts = [VERSION, asdict(self.limits), self.isolation.on, notebook]
        return sha256(json.dumps(parts).encode()).hexdigest()


def grade(
    assignment: Path,
    submitted: Path,
    results: Path,
    *,
    limits: Limits | None = None,
    isolation: Isolation | None = None,
    jobs: int = 1,
    again: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda record: None,
) -> dict[str, Any]:
    """The summary, also written to `results` as results.json and results.csv, beside a record per submission.

    No submission can end the run; what cannot be graded gets no points and a reason. A submission that was
    graded before, by the same assignment and limits, keeps its record unless `again`; `report` is told of
    each. Raises FileNotFoundError, and ValueError where students' code could read what it must not.
    """
    notebook, cells = read_assignment(assignment)
    isolation = sandbox.find_isolation() if isolation is None else isolation
    job = Job(notebook, cells, limits or Limits(), isolation)
    found = find(submitted, notebook.name)
    if isolation.on:
        _check_unseen([notebook.parent, submitted, results])
    records = results / "records"
    records.mkdir(parents=True, exist_ok=True)

    def one(submission: Submission) -> dict[str, Any]:
        record = _record(job, submission, records / f"{submission.slug}.json", again)
        report(record)
        return record

    with ThreadPoolExecutor(jobs) as pool:
        graded = list(pool.map(one, found))
    summary = _summary(job, graded)
    write_whole(results / "results.json", json.dumps(summary, indent=1) + "\n")
    write_whole(results / "results.csv", _table(job, graded))
    return summary


def write_whole(path: Path, text: str) -> None:
    """Write a file so that nobody ever finds half of it."""
    aside = path.with_name(path.name + ".partial")
    aside.write_text(text, "utf8", "backslashreplace")  # students' text may hold half a character
    aside.replace(path)


def _record(job: Job, submission: Submission, kept: Path, again: bool) -> dict[str, Any]:
    """The record of one submission: the kept one where it still holds, else a new one. Raises nothing."""
    name = submission.name.encode("utf8", "backslashreplace").decode()
    record: dict[str, Any] = {"name": name, "slug": submission.slug, "isolated": job.isolation.on}
    try:
        if submission.path is None:
            raise ValueError(submission.refused)
        data = read(submission.path, job.limits.notebook_mb)
        record |= {"file": submission.path.name.encode("utf8", "backslashreplace").decode()}
        record |= {"key": sha256(job.digest.encode() + data).hexdigest()}
        if not again and (old := _kept(kept, record["key"])):
            return old
        record |= _examined(job, data)
    except ValueError as error:
        record |= {"refused": str(error)}
    except Exception as error:  # a fault of ours must not cost the others their grades
        record |= {"failed": f"{type(error).__name__}: {error}"}
    nothing = [
        {"id": cell.grade_id, "points": 0.0, "of": cell.points, "passed": False, "message": "Not graded."}
        for cell in job.cells
        if cell.role == "check"
    ]
    record = {"checks": nothing, "cells": [], "notes": [], **record}
    record["points"] = sum(check["points"] for check in record["checks"])
    record["of"] = sum(check["of"] for check in record["checks"])
    record["by_hand"] = sum(cell.points for cell in job.cells if cell.by_hand)
    write_whole(kept, json.dumps(record, indent=1) + "\n")
    return record


def _kept(path: Path, key: str) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        record = json.loads(path.read_text("utf8"))
        if isinstance(record, dict) and record.get("key") == key and "failed" not in record:
            return record
    return None


def _examined(job: Job, data: bytes) -> dict[str, Any]:
    """What an examiner of its own, in a process of its own, says of a submission."""
    told = {
        "assignment": [asdict(cell) for cell in job.cells],
        "submission": base64.b64encode(data).decode(),
        "limits": asdict(job.limits),
        "isolation": asdict(job.isolation),
        "parent": os.getpid(),
    }
    python = {"PYTHONPATH": str(sandbox.PACKAGE.parent), "OMP_NUM_THREADS": "1"}
    examiner = subprocess.Popen(
        [sys.executable, "-P", "-m", "course.grading.examiner"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **python},
        start_new_session=True,
    )
    try:
        seconds = job.limits.total_seconds + MARGIN
        answer, complaint = examiner.communicate(json.dumps(told).encode(), timeout=seconds)
        record: dict[str, Any] = json.loads(answer)
    except subprocess.TimeoutExpired:
        record = {"failed": "the examiner did not finish in time"}
    except ValueError:
        said = complaint.decode("utf8", "replace").strip().splitlines() or ["no word"]
        record = {"failed": f"the examiner ended with {examiner.returncode}: {said[-1]}"}
    finally:
        with suppress(ProcessLookupError):
            os.killpg(examiner.pid, signal.SIGKILL)
        examiner.wait()
    return record


def _check_unseen(folders: Sequence[Path]) -> None:
    for folder in folders:
        for seen in [*sandbox.visible(), Path("/usr")]:
            if folder.resolve().is_relative_to(seen.resolve()):
                raise ValueError(f"{folder} lies in {seen}, which students' code may read: move it elsewhere")


def _summary(job: Job, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    warning = "" if job.isolation.on else UNSAFE.format(reason=job.isolation.reason)
    isolation = {"on": job.isolation.on, "warning": warning}
    left = {"cells", "key"}
    students = [{key: value for key, value in record.items() if key not in left} for record in records]
    return {"assignment": job.notebook.stem, "isolation": isolation, "students": students}


def _table(job: Job, records: Sequence[dict[str, Any]]) -> str:
    checks = [cell.grade_id for cell in job.cells if cell.role == "check"]
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["student", "points", "of", "to give by hand", "isolated", "problem", *checks])
    for record in records:
        problem = record.get("refused") or record.get("failed") or ""
        points = {check["id"]: check["points"] for check in record["checks"]}
        isolated = "yes" if record["isolated"] else "NO"
        row = [record["name"], record["points"], record["of"], record["by_hand"], isolated, problem]
        table.writerow([_cell(value) for value in [*row, *(points.get(name, 0) for name in checks)]])
    return text.getvalue()


def _cell(value: Any) -> Any:
    """A spreadsheet would take text that starts so for a formula and run it."""
    formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if formula else value
