"""The claims of chapter 2, each rule fixed from its paper before anything was measured."""

from itertools import pairwise
from statistics import fmean

from course.claims import tradeoff
from course.claims.claim import Claim, Measured

ROUND_TRIPS, CYCLES = (5, 10, 20), (50, 100, 200)  # steps
RATIOS = (0.6, 0.8, 1.0)  # of DiffEdit: to both sides of its usual 0.8
GUIDED = ("guided down", "guided both ways")
STYLES = ("cycle error", "distance moved", "read as the target style")


def _falls(measured: Measured, names: list[str]) -> bool:
    means = [fmean(measured[name]) for name in names]
    return all(more > less for more, less in pairwise(means))


def _ddim_inversion(measured: Measured) -> bool:
    plain = fmean(measured["round-trip error, 10 steps"])
    guided = [fmean(measured[f"round-trip error, 10 steps, {how}"]) for how in GUIDED]
    falls = _falls(measured, [f"round-trip error, {steps} steps" for steps in ROUND_TRIPS])
    return falls and min(guided) >= 2 * plain


def _ddib(measured: Measured) -> bool:
    cycles = [f"cycle error in the plane, {steps} steps" for steps in CYCLES]
    closed = _falls(measured, cycles) and fmean(measured[cycles[-1]]) < 0.1
    error, moved, read = (fmean(measured[f"pictures, {what}"]) for what in STYLES)
    return closed and error < moved / 2 and read >= 0.5


def _diffedit(measured: Measured) -> bool:
    return tradeoff.above_sdedit(measured, "DiffEdit", RATIOS)


CLAIMS = (
    Claim(
        id="ddim_inversion",
        paper="DDIM, Song, Meng and Ermon 2021, arXiv:2010.02502",
        statement="A picture comes back from its own noise, the better the more steps; guidance breaks that.",
        where="section 5.4, table 2; for guidance, null-text inversion, arXiv:2211.09794, section 3",
        metric="root mean square error of the latents (of unit variance) after inversion and sampling",
        measures=(
            *(f"round-trip error, {steps} steps" for steps in ROUND_TRIPS),
            *(f"round-trip error, 10 steps, {how}" for how in GUIDED),
        ),
        rule=_ddim_inversion,
        rule_text="The mean error falls with every doubling of the steps, and with guidance, on the way down "
        "or both ways, it is at least twice the unguided error at the same steps.",
        lesson="notebooks/2_inversion/1_ddim_inversion.ipynb",
    ),
    Claim(
        id="ddib",
        paper="DDIB, Su et al. 2023, arXiv:2203.08382",
        statement="Two models trained apart translate through their shared noise, and back again: the cycle "
        "closes up to the steps' error.",
        where="section 3, and the synthetic and conditional experiments of section 4",
        metric="mean distance of points from their round trip (sets of unit variance); root mean square of "
        "latents; share of translated photographs that the recogniser reads as sketches",
        measures=(
            *(f"cycle error in the plane, {steps} steps" for steps in CYCLES),
            *(f"pictures, {what}" for what in STYLES),
        ),
        rule=_ddib,
        rule_text="In the plane the mean cycle error falls with every doubling of the steps and is below 0.1 "
        "at 200. Photographs that went to the model of sketches and back come home nearer than half the way "
        "they had moved, and at least half of the translations are read as sketches.",
        lesson="notebooks/2_inversion/2_ddib.ipynb",
    ),
    Claim(
        id="diffedit",
        paper="DiffEdit, Couairon et al. 2023, arXiv:2210.11427",
        statement="A mask found from the contrast of two prompts, and inversion, edit better than SDEdit at "
        "the same faithfulness.",
        where="section 4: likeness to the input against success of the edit, over the encoding ratio",
        metric="PSNR to the source where nothing should change (dB); share of edits that succeed; "
        "intersection over union of the found mask with the true one",
        measures=tradeoff.measures("DiffEdit", RATIOS),
        rule=_diffedit,
        rule_text=f"On average over the ratios 0.6, 0.8 and 1, {tradeoff.RULE_TEXT}",
        lesson="notebooks/2_inversion/3_diffedit.ipynb",
    ),
)
