"""The claims of chapter 3, each rule fixed from its paper before anything was measured."""

from statistics import fmean

from course.claims import tradeoff
from course.claims.claim import Claim, Measured

ETAS = (0.6, 0.7, 0.8)  # the range that the paper samples in
INVERSIONS = ("autoencoder alone", "null-text", "negative prompt", "plain")


def _imagic(measured: Measured) -> bool:
    return tradeoff.above_sdedit(measured, "Imagic", ETAS)


def _null_text(measured: Measured) -> bool:
    bound, found, _, plain = (fmean(measured[f"PSNR, {name}"]) for name in INVERSIONS)
    return found >= bound - 1 and found >= plain + 6


CLAIMS = (
    Claim(
        id="imagic",
        paper="Imagic, Kawar et al. 2023, arXiv:2210.09276",
        statement="A tuned model and an optimised text edit better than SDEdit at the same faithfulness.",
        where="section 4: the user study, in which it is preferred to SDEdit, and the trade-off over eta",
        metric="PSNR to the source outside what may change (dB); share of edits that succeed",
        measures=tradeoff.measures("Imagic", ETAS),
        rule=_imagic,
        rule_text=f"On average over eta = 0.6, 0.7 and 0.8, {tradeoff.RULE_TEXT}",
        lesson="notebooks/3_embeddings/1_imagic.ipynb",
    ),
    Claim(
        id="null_text",
        paper="Null-text inversion, Mokady et al. 2023, arXiv:2211.09794",
        statement="With its null embeddings, a guided walk leads back to the picture, as nearly as the "
        "autoencoder lets it.",
        where="section 3.3 and the ablation of section 4",
        metric="PSNR of the reconstruction at guidance scale 7.5 to the picture (dB)",
        measures=tuple(f"PSNR, {name}" for name in INVERSIONS),
        rule=_null_text,
        rule_text="Null-text inversion comes within 1 dB of the autoencoder alone, and is 6 dB (half the "
        "error) better than plain inversion; negative-prompt inversion is measured alongside.",
        lesson="notebooks/3_embeddings/2_null_text.ipynb",
    ),
)
