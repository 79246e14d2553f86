"""All claims, and the one way to record a measurement.

A lesson measures and calls `record`. The rule then has to agree with the verdict that stands in the registry:
a claim that stops holding raises, and so does one that starts to.
"""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from course.claims import (
    embeddings,
    implicit_assumptions,
    instruct_pix2pix,
    inversion,
    noise_editing,
    palette,
    plug_and_play,
    prompt_to_prompt,
    sparse_inference,
    stochastic_refinement,
)
from course.claims.claim import Claim, ClaimContradicted, Measured, Record, Row

SEEDS = 5  # values of each setting that a claim needs at least
CHAPTERS = (
    noise_editing,
    palette,
    stochastic_refinement,
    sparse_inference,
    inversion,
    embeddings,
    prompt_to_prompt,
    plug_and_play,
    instruct_pix2pix,
    implicit_assumptions,
)
CLAIMS: dict[str, Claim] = {claim.id: claim for chapter in CHAPTERS for claim in chapter.CLAIMS}


def record(claim_id: str, measured: Measured) -> Record:
    """The claim's table, once the measurement has been found to agree with its verdict.

    measured: for each name in the claim's `measures` one value for every seed; more settings are shown too.
    Writes `claims/<id>.json` in the folder that the environment variable COURSE_BUILD names, if it does.
    Raises ClaimContradicted when rule and verdict disagree; ValueError for an unknown claim, a missing
    setting, fewer than 5 seeds, and values that are not finite.
    """
    if claim_id not in CLAIMS:
        raise ValueError(f"unknown claim {claim_id!r}: use one of {', '.join(CLAIMS)}")
    claim = CLAIMS[claim_id]
    missing = [name for name in claim.measures if name not in measured]
    if missing:
        raise ValueError(f"{claim_id}: the rule reads {claim.measures}, not measured: {missing}")
    found = Record(claim, tuple(_row(claim_id, name, values) for name, values in measured.items()))
    holds = claim.rule({row.setting: row.values for row in found.rows})
    if holds != (claim.verdict == "holds"):
        outcome = "holds" if holds else "does not hold"
        raise ClaimContradicted(f"registry: {claim_id} {claim.verdict}; measured: it {outcome}\n{found!r}")
    if folder := os.environ.get("COURSE_BUILD"):
        _write(Path(folder) / "claims" / f"{claim_id}.json", found.as_json())
    return found


def _row(claim_id: str, setting: str, values: Sequence[float]) -> Row:
    numbers = tuple(float(value) for value in values)
    if len(numbers) < SEEDS:
        raise ValueError(f"{claim_id}, {setting}: {len(numbers)} seeds; measure at least {SEEDS}")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{claim_id}, {setting}: a value is not finite: {numbers}")
    return Row(setting, numbers)


def _write(path: Path, content: dict[str, Any]) -> None:
    """Aside first, then in place, so that nobody reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.partial")
    aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf8")
    aside.replace(path)
