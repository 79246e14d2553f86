"""The claim of TIME. The numbers of its rule were fixed from the paper before anything was measured.

That it is asked of a colour and of a style, and of which prompts, was settled after a look at other seeds.
"""

from statistics import fmean

from course.claims.claim import Claim, Measured

ASSUMPTIONS = ("colour", "style")
WHEN = ("unedited", "edited")


def _time(measured: Measured) -> bool:
    def gain(what: str, assumption: str) -> float:
        before, after = (fmean(measured[f"{what}, {assumption}, {when}"]) for when in WHEN)
        return after - before

    return all(
        gain("efficacy", each) >= 0.5
        and gain("generality", each) >= 0.5
        and gain("specificity", each) >= -0.1
        for each in ASSUMPTIONS
    )


CLAIMS = (
    Claim(
        id="time",
        paper="TIME, Orgad et al. 2023, arXiv:2303.08084",
        statement="Editing the keys and values of cross-attention in closed form changes what a prompt "
        "implies, and what related prompts imply, and hardly anything else.",
        where="abstract, and the evaluation on the authors' data set TIMED",
        metric="share of pictures that the recogniser reads as the destination says (efficacy: of the "
        "source prompt; generality: of related prompts), or as an unrelated prompt says (specificity)",
        measures=tuple(
            f"{what}, {assumption}, {when}"
            for assumption in ASSUMPTIONS
            for what in ("efficacy", "generality", "specificity")
            for when in WHEN
        ),
        rule=_time,
        rule_text="For an assumed colour and for an assumed style: mean efficacy and generality rise by at "
        "least 0.5 over the unedited model, and mean specificity falls by at most 0.1.",
        lesson="notebooks/4_attention/4_implicit_assumptions.ipynb",
        verdict="does not hold here",
        reason="the edit aims at the destination's embeddings without those of the added words, and in this "
        "model a colour, and often a style, stands in the added word's own embedding: drawn directly, the "
        "edit's targets do not show it either. (Its text encoder was trained with the denoiser, which reads "
        "each word where it stands; CLIP's was trained to sum sentences up)",
    ),
)
