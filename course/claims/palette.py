"""The claims of Palette, each rule fixed from the paper before anything was measured."""

from statistics import fmean

from course.claims.claim import Claim, Measured

TASKS = ("colourisation", "inpainting", "uncropping", "jpeg")
SPECIALISTS = ("colourisation", "inpainting", "jpeg")  # tasks that have a network of their own
DIVERSE = ("colourisation", "inpainting")
LESSON = "notebooks/1_noise_editing/3_palette.ipynb"
PAPER = "Palette, Saharia et al. 2022, arXiv:2111.05826"


def _against_regression(measured: Measured) -> bool:
    mean = {name: fmean(values) for name, values in measured.items()}
    nearer = all(mean[f"distance, {task}, Palette"] < mean[f"distance, {task}, regression"] for task in TASKS)
    read = [fmean(mean[f"read right, {task}, {net}"] for task in TASKS) for net in ("Palette", "regression")]
    return nearer and read[0] > read[1]


def _generalist(measured: Measured) -> bool:
    mean = {name: fmean(values) for name, values in measured.items()}
    return all(
        mean[f"read right, {task}, all tasks"] >= 0.9 * mean[f"read right, {task}, one task"]
        for task in SPECIALISTS
    )


def _diversity(measured: Measured) -> bool:
    return all(fmean(measured[f"{task}, L2"]) > fmean(measured[f"{task}, L1"]) for task in DIVERSE)


CLAIMS = (
    Claim(
        id="palette_regression",
        paper=PAPER,
        statement="Samples of a conditional diffusion model look like true pictures, and are recognised; "
        "the mean that a regression of the same network gives is nearer to the truth, but blurred.",
        where="section 5, tables 1 to 4: against the regression baseline",
        metric="Fréchet distance to true pictures; share of pictures whose kinds the recogniser reads right",
        measures=tuple(
            f"{what}, {task}, {net}"
            for what in ("distance", "read right")
            for task in TASKS
            for net in ("Palette", "regression")
        ),
        rule=_against_regression,
        rule_text="The mean Fréchet distance is below the regression's on each of the four tasks, and the "
        "share read right, averaged over the tasks, is above it.",
        lesson=LESSON,
        verdict="does not hold here",
        reason="on colours, holes and borders the samples are nearer to true pictures than the regression's "
        "answers, but not on JPEG: there hardly anything is open, so that the mean is a picture too, and a "
        "small network's samples are less clean",
    ),
    Claim(
        id="palette_generalist",
        paper=PAPER,
        statement="One network for all tasks does as well as a specialist of each.",
        where="section 5.5, table 6",
        metric="share of pictures whose kinds the recogniser reads right",
        measures=tuple(
            f"read right, {task}, {net} task{s}"
            for task in SPECIALISTS
            for net, s in (("all", "s"), ("one", ""))
        ),
        rule=_generalist,
        rule_text="On each of three tasks the network of all tasks reaches at least 0.9 of the share that "
        "the specialist, trained for as many steps, has read right.",
        lesson=LESSON,
        verdict="does not hold here",
        reason="it does as well in holes, and less well on JPEG: of as many pictures the specialist saw four "
        "times as many of its own task, and networks as small and as briefly trained as these gain by that",
    ),
    Claim(
        id="palette_diversity",
        paper=PAPER,
        statement="A network trained with an L1 loss draws samples that differ less than with L2.",
        where="section 5.6 and appendix: L1 against L2",
        metric="root mean square difference of two samples of one input, where there was something to find",
        measures=tuple(f"{task}, {loss}" for task in DIVERSE for loss in ("L2", "L1")),
        rule=_diversity,
        rule_text="On colourisation and on inpainting the mean difference is larger with L2.",
        lesson=LESSON,
    ),
)
