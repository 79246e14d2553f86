"""The claim of sparse inference (SIGE), its rule fixed from the paper before anything was measured."""

from statistics import fmean, median

from course.claims.claim import Claim, Measured


def _sige(measured: Measured) -> bool:
    fewer = min(measured["times fewer operations, 1 % edit"])
    faster = median(measured["times faster, 1 % edit"])
    whole = fmean(measured["PSNR to dense, whole picture"])
    sparse, cropped = (fmean(measured[f"PSNR to dense, edited part, {way}"]) for way in ("sparse", "cropped"))
    return fewer >= 4 and faster > 1 and whole >= 30 and sparse > cropped


CLAIMS = (
    Claim(
        id="sige",
        paper="SIGE, Li et al. 2022, arXiv:2211.02048",
        statement="After an edit of 1 % of the picture, what the edit touched can be computed alone: with "
        "several times fewer operations, in less time, and with nearly the same result.",
        where="abstract (8.2 times fewer operations in Stable Diffusion)",
        metric="operations (multiply-adds of one guided call of Stable Diffusion 1.5's U-Net) and seconds "
        "(of a U-Net of its kind, narrow, random weights), dense over sparse; PSNR (dB) of the sticker "
        "model's edit to its edit with all computed",
        measures=(
            "times fewer operations, 1 % edit",
            "times faster, 1 % edit",
            "PSNR to dense, whole picture",
            "PSNR to dense, edited part, sparse",
            "PSNR to dense, edited part, cropped",
        ),
        rule=_sige,
        rule_text="At every seed at least 4 times fewer operations, half of what the paper reports; in the "
        "median of the seeds less time; and the mean PSNR is at least 30 dB, in the edited part higher than "
        "that of running the network on a crop around the edit.",
        lesson="notebooks/1_noise_editing/5_sparse_inference.ipynb",
    ),
)
