"""The claim of Prompt-to-Prompt, its rule fixed from the paper before anything was measured."""

from itertools import pairwise
from statistics import fmean

from course.claims.claim import Claim, Measured

SHARES = (0.0, 0.4, 0.8)  # of the walk under the source's maps: 0 is re-prompting, 0.8 the authors' usual


def _prompt_to_prompt(measured: Measured) -> bool:
    far = [fmean(measured[f"distance to the source, share {share}"]) for share in SHARES]
    read = [fmean(measured[f"new word read, share {share}"]) for share in SHARES]
    return all(more > less for more, less in pairwise(far)) and read[-1] >= 0.75 * read[0]


CLAIMS = (
    Claim(
        id="prompt_to_prompt",
        paper="Prompt-to-Prompt, Hertz et al. 2022, arXiv:2208.01626",
        statement="With the source prompt's attention maps a changed prompt changes what the word says and "
        "keeps the layout, which the changed prompt alone, from the same noise, does not.",
        where="section 3.2 (figures 2 and 6, the share of steps under the source's maps)",
        metric="root mean square distance of the pictures, in [-1, 1], before and after one kind of thing is "
        "swapped for another; share of edits in which the recogniser reads the new kind",
        measures=tuple(
            f"{what}, share {share}"
            for what in ("distance to the source", "new word read")
            for share in SHARES
        ),
        rule=_prompt_to_prompt,
        rule_text="The mean distance to the source falls from re-prompting with the same noise over 40 % to "
        "80 % of the steps under the source's cross-attention (and half as many under its self-attention), "
        "and at 80 % the new word is read at least three quarters as often as by re-prompting.",
        lesson="notebooks/4_attention/1_prompt_to_prompt.ipynb",
        verdict="does not hold here",
        reason="the distance falls, but at 80 % the new kind is read less than half as often: on 16 x 16 "
        "latents the maps draw the old thing's outline, and a kind of sticker is little else. At 40 % nearly "
        "all new kinds are read, and the distance has fallen, too.",
    ),
)
