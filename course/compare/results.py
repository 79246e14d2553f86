"""Measurements on their way to a file and back, and what they come to."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from course.compare.measure import Found

PUBLISHED = Path(__file__).with_name("results.json")  # of the full run that docs/comparison.md shows
COLUMNS = tuple(Found.__dataclass_fields__)


@dataclass(frozen=True)
class Spread:
    """A mean over groups, and their standard deviation (0 for one group)."""

    mean: float
    std: float

    def __format__(self, spec: str) -> str:
        return f"{self.mean:{spec}} ± {self.std:{spec}}"


@dataclass(frozen=True)
class Results:
    """All editors in one frame. measured: by editor's name. about: its entry. skipped: why, by name."""

    frame: dict[str, Any]
    about: dict[str, dict[str, Any]]
    measured: dict[str, list[Found]]
    skipped: dict[str, str]

    def kinds(self) -> list[str]:
        """The kinds of edits, in the order of the cases."""
        return list(dict.fromkeys(kind for _, kind, *_ in self.frame["cases"]))

    def by_group(self, name: str, of: str, kind: str | None = None) -> list[float]:
        """An editor's mean of a column in each group of cases, of one kind of edits or of all.

        Cases where nobody can tell do not count; a group of nothing else is left out.
        """
        groups: dict[int, list[float]] = {}
        for found in self.measured[name]:
            group, its_kind, *_ = self.frame["cases"][found.case]
            value = getattr(found, of)
            if value is not None and kind in (None, its_kind):
                groups.setdefault(group, []).append(float(value))
        return [fmean(values) for _, values in sorted(groups.items())]

    def spread(self, name: str, of: str, kind: str | None = None) -> Spread | None:
        """The mean and standard deviation of `by_group`; None where nobody could tell."""
        values = self.by_group(name, of, kind)
        return Spread(fmean(values), stdev(values) if len(values) > 1 else 0.0) if values else None

    def typical(self, name: str, of: str) -> float:
        """The median over all cases: of calls, rows or seconds."""
        return median(getattr(found, of) for found in self.measured[name])


def as_json(results: Results, machine: dict[str, Any]) -> str:
    """The file's text: a line for each column of each editor."""
    content = {
        "frame": {**results.frame, "cases": len(results.frame["cases"])},
        "machine": machine,
        "skipped": results.skipped,
        "cases": results.frame["cases"],
        "editors": {
            name: results.about[name]
            | {column: [asdict(each)[column] for each in found] for column in COLUMNS}
            for name, found in results.measured.items()
        },
    }
    return _lines(content, 3) + "\n"


def _lines(value: Any, deep: int, indent: str = "") -> str:
    if deep == 0 or not value or not isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    inner = indent + " "
    if isinstance(value, dict):
        rows = [
            f"{json.dumps(key, ensure_ascii=False)}: {_lines(each, deep - 1, inner)}"
            for key, each in value.items()
        ]
    else:
        rows = [_lines(each, 0, inner) for each in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{inner}" + f",\n{inner}".join(rows) + f"\n{indent}{closing}"


def read_results(path: Path = PUBLISHED) -> Results:
    """The measurements in a file. Raises FileNotFoundError, and ValueError for a file of something else."""
    try:
        content = json.loads(path.read_text("utf8"))
        frame = content["frame"] | {"cases": content["cases"]}
        editors = content["editors"].items()
        about = {
            name: {key: value for key, value in each.items() if key not in COLUMNS} for name, each in editors
        }
        measured = {name: _rows(each) for name, each in editors}
        return Results(frame, about, measured, dict(content["skipped"]))
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} does not hold a comparison ({error!r}): delete it, or choose another --out"
        ) from error


def _rows(each: dict[str, Sequence[Any]]) -> list[Found]:
    return [Found(*row) for row in zip(*(each[column] for column in COLUMNS), strict=True)]


def write(path: Path, content: str | bytes) -> None:
    """Write aside, then rename: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".partial")
    aside.write_bytes(content.encode("utf8") if isinstance(content, str) else content)
    aside.replace(path)
