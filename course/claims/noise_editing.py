"""The claims of chapter 1, each rule fixed from its paper before anything was measured."""

from itertools import pairwise
from statistics import fmean

from course.claims.claim import Claim, Measured

STRENGTHS = (0.2, 0.4, 0.6, 0.8)


def _sdedit(measured: Measured) -> bool:
    far = [fmean(measured[f"distance to guide, strength {strength}"]) for strength in STRENGTHS]
    read = {strength: fmean(measured[f"read as prompted, strength {strength}"]) for strength in STRENGTHS}
    return all(near < next_ for near, next_ in pairwise(far)) and min(read[0.6], read[0.8]) > read[0.2]


def _blended_diffusion(measured: Measured) -> bool:
    mean = {name: fmean(values) for name, values in measured.items()}
    kept = [mean[f"background PSNR, {method}"] for method in ("right level", "wrong level", "SDEdit")]
    as_successful = mean["edit success, right level"] >= mean["edit success, SDEdit"] - 0.05
    return kept[0] >= kept[1] and kept[0] >= kept[2] + 6 and as_successful


CLAIMS = (
    Claim(
        id="sdedit",
        paper="SDEdit, Meng et al. 2022, arXiv:2108.01073",
        statement="The strength trades faithfulness to the guide for realism.",
        where="section 3, the realism-faithfulness trade-off, and proposition 1",
        metric="distance to the guide (root mean square of pixels in [-1, 1]); "
        "share of pictures that the recogniser reads as prompted",
        measures=tuple(
            f"{what}, strength {strength}"
            for what in ("distance to guide", "read as prompted")
            for strength in STRENGTHS
        ),
        rule=_sdedit,
        rule_text="The mean distance grows with every strength, and at 0.6 and at 0.8 more pictures are read "
        "as prompted than at 0.2.",
        lesson="notebooks/1_noise_editing/1_sdedit.ipynb",
    ),
    Claim(
        id="blended_diffusion",
        paper="Blended Diffusion, Avrahami et al. 2022, arXiv:2111.14818",
        statement="Blending the noised source in at every step edits inside the mask and keeps the rest.",
        where="section 3.2; Blended Latent Diffusion, arXiv:2206.02779, section 4",
        metric="PSNR outside the mask (dB); share of edits that succeed",
        measures=(
            "background PSNR, right level",
            "background PSNR, wrong level",
            "background PSNR, SDEdit",
            "edit success, right level",
            "edit success, SDEdit",
        ),
        rule=_blended_diffusion,
        rule_text="The background is kept at least as well with the right level as with the wrong one, and "
        "6 dB (half the error) better than by SDEdit without a mask, at no more than 5 points less success.",
        lesson="notebooks/1_noise_editing/2_blended_diffusion.ipynb",
    ),
)
