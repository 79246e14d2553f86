"""The claim of stochastic refinement, its rule fixed from the paper before anything was measured."""

from itertools import pairwise
from statistics import fmean

from course.claims.claim import Claim, Measured

SAMPLES = (1, 2, 4, 8)  # that are averaged
RESULTS = ("prediction", *(f"mean of {n}" for n in SAMPLES))


def _refinement(measured: Measured) -> bool:
    likeness, distance = (
        {result: fmean(measured[f"{what}, {result}"]) for result in RESULTS}
        for what in ("PSNR", "Fréchet distance")
    )
    along = list(pairwise(RESULTS[1:]))
    traverses = all(likeness[a] < likeness[b] and distance[a] < distance[b] for a, b in along)
    near = likeness["mean of 8"] >= likeness["prediction"] - 1
    return traverses and distance["mean of 1"] < distance["prediction"] and near


CLAIMS = (
    Claim(
        id="stochastic_refinement",
        paper="Deblurring via stochastic refinement, Whang et al. 2022, arXiv:2112.02475",
        statement="A drawn residual makes the prediction look like a sharp picture; the mean of several "
        "draws trades that, step by step, for likeness to the true one.",
        where="sections 3 and 5, sample averaging and the perception-distortion curve",
        metric="PSNR to the sharp picture (dB), mean over pictures; Fréchet distance of the results to the "
        "sharp pictures, on the recogniser's features",
        measures=tuple(f"{what}, {result}" for what in ("PSNR", "Fréchet distance") for result in RESULTS),
        rule=_refinement,
        rule_text="In the mean over seeds, PSNR and Fréchet distance both grow from 1 draw to the mean of 2, "
        "4 and 8; the distance of one draw is below the prediction's; and the mean of 8 has a PSNR no more "
        "than 1 dB below the prediction's (an exact sampler's is 0.5 dB below the exact mean's).",
        lesson="notebooks/1_noise_editing/4_stochastic_refinement.ipynb",
        verdict="does not hold here",
        reason="averaging brings the PSNR near to the prediction's, but draws of a small denoiser, taught "
        "for minutes, are crisp with ragged edges, and by the recogniser's features no nearer to sharp "
        "pictures than the soft prediction",
    ),
)
