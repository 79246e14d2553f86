"""The claim of Plug-and-Play, its rule fixed from the paper before anything was measured."""

from statistics import fmean

import numpy as np

from course.claims.claim import Claim, Measured

STRENGTHS = (0.2, 0.4, 0.6, 0.8)  # of SDEdit, whose line Plug-and-Play is held against
METHODS = ("Plug-and-Play", "DDIB", *(f"SDEdit {strength}" for strength in STRENGTHS))


def _plug_and_play(measured: Measured) -> bool:
    apart = {method: fmean(measured[f"structure distance, {method}"]) for method in METHODS}
    success = {method: fmean(measured[f"edit success, {method}"]) for method in METHODS}
    line = sorted((apart[name], success[name]) for name in METHODS if name.startswith("SDEdit"))
    distances, successes = np.array(line).T
    sdedit = float(np.interp(apart["Plug-and-Play"], distances, successes))  # level beyond its ends
    over_sdedit = success["Plug-and-Play"] > sdedit
    nearer_than_ddib = apart["Plug-and-Play"] < apart["DDIB"]
    # A mean's last bit must not decide where it is 5 points exactly.
    as_successful = success["Plug-and-Play"] >= success["DDIB"] - 0.05 - 1e-9
    return over_sdedit and nearer_than_ddib and as_successful


CLAIMS = (
    Claim(
        id="plug_and_play",
        paper="Plug-and-Play diffusion features, Tumanyan et al. 2023, arXiv:2211.12572",
        statement="With the guide's features and self-attention injected, a picture changes its looks to a "
        "prompt's and keeps its structure.",
        where="section 5: structure distance to the guide against likeness to the prompt",
        metric="structure distance to the source (mean squared difference of self-similarities, on the "
        "recogniser's features, times 1000); share of edits that succeed",
        measures=tuple(
            f"{what}, {method}" for what in ("structure distance", "edit success") for method in METHODS
        ),
        rule=_plug_and_play,
        rule_text="At the paper's shares (features 0.8, attention 0.5) more edits succeed than with SDEdit "
        "where that keeps the structure as well: on the line through its means at four strengths, level "
        "beyond its ends. And the structure is kept better than by DDIB from the source's caption to the "
        "target's, as strongly guided, at no more than 5 points less success.",
        lesson="notebooks/4_attention/2_plug_and_play.ipynb",
        verdict="does not hold here",
        reason="the structure is kept better than by DDIB, and more edits succeed than on SDEdit's line, but "
        "DDIB succeeds 4 edits of 75 more often, one more than the rule lets it: most of what is kept here "
        "is kept by the inversion, which both share",
    ),
)
