"""The claim of InstructPix2Pix, its rule fixed from the paper before anything was measured."""

from course.claims import tradeoff
from course.claims.claim import Claim, Measured

METHOD = "InstructPix2Pix"
IMAGE_SCALES = (1.0, 1.5, 2.0)  # the paper's figure goes from 1 to 2.2; 1.5 is its default


def _instruct_pix2pix(measured: Measured) -> bool:
    return tradeoff.above_sdedit(measured, METHOD, IMAGE_SCALES)


CLAIMS = (
    Claim(
        id="instruct_pix2pix",
        paper="InstructPix2Pix, Brooks et al. 2023, arXiv:2211.09800",
        statement="A network that learnt from drawn pairs follows written instructions on pictures it has "
        "never seen, without inversion or tuning, and edits better than SDEdit at the same faithfulness.",
        where="section 4.2: likeness to the input against success of the edit, over the image guidance scale",
        metric="PSNR to the source where nothing should change (dB); share of edits that succeed",
        measures=tradeoff.measures(METHOD, IMAGE_SCALES),
        rule=_instruct_pix2pix,
        rule_text="The network of the drawn pairs, told the instruction alone, at a guidance scale of 5, as "
        "SDEdit, which is told the caption of the result: on average over image guidance scales of 1, 1.5 "
        f"and 2, {tradeoff.RULE_TEXT}",
        lesson="notebooks/4_attention/3_instruct_pix2pix.ipynb",
        verdict="does not hold here",
        reason="the network follows instructions on unseen pictures, but with the drawn pairs it learnt "
        "their faults: what it adds breaks its neighbour, and where it should remove a thing it draws "
        "another; taught by as many true pairs, the same network is far above SDEdit's line",
    ),
)
