"""The teacher's commands; `python -m course.grading --help` lists them."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from course.grading.feedback import feedback
from course.grading.grade import grade
from course.grading.limits import Limits
from course.grading.release import release
from course.grading.sandbox import find_isolation


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 2 where its arguments cannot be used."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m course.grading")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("release", help="write the students' copy of an assignment")
    command.add_argument("assignment", type=Path, help="the assignment's folder or notebook")
    command.add_argument("folder", type=Path, help="where the copy goes")
    command.set_defaults(run=_release)
    command = commands.add_parser("grade", help="grade a folder of submissions, each in a sandbox")
    command.add_argument("assignment", type=Path, help="the assignment with its solutions")
    command.add_argument("submitted", type=Path, help="the folder with NAME.ipynb or NAME/ for each student")
    command.add_argument("results", type=Path, help="where results.csv, results.json and the records go")
    command.add_argument("--jobs", type=int, default=1, help="submissions to grade at a time")
    command.add_argument("--again", action="store_true", help="grade also what has not changed since")
    command.add_argument("--no-isolation", action="store_true", help="do without bubblewrap")
    for field in fields(Limits):
        name = "--" + field.name.replace("_", "-")
        default = field.default
        command.add_argument(name, type=type(default), default=default, metavar="N", help="%(default)s")
    command.set_defaults(run=_grade)
    command = commands.add_parser("feedback", help="write a page for each student that was graded")
    command.add_argument("results", type=Path, help="the folder that `grade` wrote")
    command.set_defaults(run=_feedback)
    return parser


def _release(options: argparse.Namespace) -> int:
    print(release(options.assignment, options.folder))
    return 0


def _grade(options: argparse.Namespace) -> int:
    limits = Limits(**{field.name: getattr(options, field.name) for field in fields(Limits)})
    isolation = find_isolation(None if options.no_isolation else "bwrap")
    summary = grade(
        options.assignment,
        options.submitted,
        options.results,
        limits=limits,
        isolation=isolation,
        jobs=options.jobs,
        again=options.again,
        report=_say,
    )
    print(f"{len(summary['students'])} submissions: {options.results / 'results.csv'}")
    if warning := summary["isolation"]["warning"]:
        print(f"\n*** {warning} ***", file=sys.stderr)
    return 0


def _say(record: dict[str, Any]) -> None:
    name = "".join(letter if letter.isprintable() else "?" for letter in record["name"])
    problem = record.get("refused") or record.get("failed")
    told = f" ({problem})" if problem else ""
    print(f"{name}: {record['points']:g} of {record['of']:g}{told}", flush=True)


def _feedback(options: argparse.Namespace) -> int:
    pages = feedback(options.results)
    print(f"{len(pages)} pages: {options.results / 'feedback'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
