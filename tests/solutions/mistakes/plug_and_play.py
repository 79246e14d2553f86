"""The exercises on Plug-and-Play, and typical mistakes."""

from tests.solutions.exercises import Exercises

LESSON = "2_plug_and_play"
EXERCISES = {"copied": (LESSON, "exercise-1"), "guided": (LESSON, "exercise-2")}

CHAPTER = Exercises("4_attention", {LESSON: []}, EXERCISES)
solution = CHAPTER.solution


def in_place(h, pictures):
    h[pictures : 2 * pictures] = h[:pictures]
    h[2 * pictures :] = h[:pictures]
    return h


def text_rows_alone(h, pictures):
    h = h.clone()
    h[2 * pictures :] = h[:pictures]
    return h


def one_guide_for_all(h, pictures):
    return h[:1].expand_as(h)


def each_picture_three_times(h, pictures):
    return h[:pictures].repeat_interleave(3, 0)


def guiding(alpha, plain=False):
    def guided(eps_null, eps_negative, eps_text, guidance_scale, i, steps, strength=1.0):
        share = alpha(i, steps, strength)
        away = share * eps_null + (1 - share) * eps_negative
        if plain:
            return eps_null + guidance_scale * (eps_text - away)
        return away + guidance_scale * (eps_text - away)

    return guided


MISTAKES = {
    "copied": [in_place, text_rows_alone, one_guide_for_all, each_picture_three_times],
    "guided": [
        guiding(lambda i, steps, strength: strength * i / (steps - 1)),  # rising
        guiding(lambda i, steps, strength: strength * (1 - i / steps)),  # not 0 at the last step
        guiding(lambda i, steps, strength: 1 - i / (steps - 1)),  # strength forgotten
        guiding(lambda i, steps, strength: 0.0),  # the negative prompt alone
        guiding(lambda i, steps, strength: strength * (1 - i / (steps - 1)), plain=True),
    ],
}
