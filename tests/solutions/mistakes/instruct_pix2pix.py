"""The exercises on InstructPix2Pix, and typical mistakes."""

from tests.solutions.exercises import Exercises

LESSON = "3_instruct_pix2pix"
EXERCISES = {"guided": (LESSON, "exercise-1"), "best": (LESSON, "exercise-2")}

CHAPTER = Exercises("4_attention", {LESSON: []}, EXERCISES)
solution = CHAPTER.solution


def rows_the_other_way_round(eps, guidance_scale, image_guidance_scale):
    eps_none, eps_image, eps_both = eps.chunk(3)
    keep, change = eps_image - eps_none, eps_both - eps_image
    return eps_none + image_guidance_scale * keep + guidance_scale * change


def scales_exchanged(eps, guidance_scale, image_guidance_scale):
    return solution("guided")(eps, image_guidance_scale, guidance_scale)


def both_away_from_nothing(eps, guidance_scale, image_guidance_scale):
    eps_both, eps_image, eps_none = eps.chunk(3)
    keep, change = eps_image - eps_none, eps_both - eps_none
    return eps_none + image_guidance_scale * keep + guidance_scale * change


def every_third_row(eps, guidance_scale, image_guidance_scale):
    eps_both, eps_image, eps_none = eps[::3], eps[1::3], eps[2::3]
    keep, change = eps_image - eps_none, eps_both - eps_image
    return eps_none + image_guidance_scale * keep + guidance_scale * change


def choosing(passes, order=lambda scores, i: -float(scores["direction"][i])):
    def best(scores, least, most):
        found = range(len(scores["direction"]))
        passed = [i for i in found if passes([float(scores[n][i] - least[n]) for n in least])]
        return sorted(passed, key=lambda i: order(scores, i))[:most]

    return best


def cut_before_the_filter(scores, least, most):
    first = solution("best")(scores, {}, most)
    return [i for i in first if all(scores[name][i] >= least[name] for name in least)]


def never_cut(scores, least, most):
    return solution("best")(scores, least, len(scores["direction"]))


MISTAKES = {
    "guided": [rows_the_other_way_round, scales_exchanged, both_away_from_nothing, every_third_row],
    "best": [
        choosing(lambda over: any(each >= 0 for each in over)),
        choosing(lambda over: all(each > 0 for each in over)),
        choosing(lambda over: all(each >= 0 for each in over), order=lambda scores, i: i),
        choosing(
            lambda over: all(each >= 0 for each in over),
            order=lambda scores, i: float(scores["direction"][i]),
        ),
        cut_before_the_filter,
        never_cut,
    ],
}
