"""A paper's claim, and what was measured of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import fmean, stdev
from typing import Any, Literal

Measured = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Claim:
    """A paper's claim in our words.

    measures: the settings that the rule reads, each with one value for every seed.
    lesson: the notebook that measures it. reason: why it does not hold here.
    """

    id: str
    paper: str
    statement: str
    where: str  # in the paper
    metric: str
    measures: tuple[str, ...]
    rule: Callable[[Measured], bool]
    rule_text: str
    lesson: str
    verdict: Literal["holds", "does not hold here"] = "holds"
    reason: str = ""

    def __post_init__(self) -> None:
        if self.verdict == "does not hold here" and not self.reason:
            raise ValueError(f"{self.id}: a claim that does not hold here needs a reason")


class ClaimContradicted(AssertionError):
    """A measurement that does not agree with the verdict of the registry."""


@dataclass(frozen=True)
class Row:
    """One setting's values, one for each seed."""

    setting: str
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def std(self) -> float:
        """The sample's standard deviation."""
        return stdev(self.values)


@dataclass(frozen=True)
class Record:
    """A claim with what was measured. Displays itself as a table."""

    claim: Claim
    rows: tuple[Row, ...]

    def as_json(self) -> dict[str, Any]:
        """What the site's table of claims tells."""
        told = ("id", "paper", "statement", "where", "metric", "lesson", "verdict", "reason")
        measured = {
            row.setting: {"mean": row.mean, "std": row.std, "n": len(row.values), "values": row.values}
            for row in self.rows
        }
        about = {name: getattr(self.claim, name) for name in told}
        return about | {"rule": self.claim.rule_text, "measured": measured}

    def _repr_html_(self) -> str:
        claim = self.claim
        cells = "".join(
            f"<tr><td style='text-align:left'>{escape(row.setting)}</td>"
            f"<td>{row.mean:.3g} ± {row.std:.2g}</td><td>{len(row.values)}</td></tr>"
            for row in self.rows
        )
        because = f", because {escape(claim.reason)}" if claim.reason else ""
        source = escape(f"{claim.paper}, {claim.where}")
        return (
            f"<p><b>Claim.</b> {escape(claim.statement)} <i>({source})</i><br>"
            f"<b>Rule.</b> {escape(claim.rule_text)}<br><b>Found:</b> {claim.verdict}{because}.</p>"
            f"<table><thead><tr><th style='text-align:left'>{escape(claim.metric)}</th><th>mean ± std</th>"
            f"<th>seeds</th></tr></thead><tbody>{cells}</tbody></table>"
        )

    def __repr__(self) -> str:
        width = max(len(row.setting) for row in self.rows)
        lines = [
            f"{row.setting:<{width}}  {row.mean:10.3g} ± {row.std:<8.2g} n={len(row.values)}"
            for row in self.rows
        ]
        return "\n".join([f"{self.claim.id}. {self.claim.rule_text}", *lines])
