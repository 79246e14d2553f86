"""Chapter 3's exercises, and typical mistakes."""

from tests.solutions.exercises import Exercises

BEFORE = {"1_imagic": ["toy"], "2_null_text": ["toy", "toy-check"]}  # cells that the exercises need
EXERCISES = {
    "stop_at": ("1_imagic", "exercise-1"),
    "find_text": ("1_imagic", "exercise-2"),
    "null_for": ("2_null_text", "exercise-1"),
    "search": ("2_null_text", "exercise-2"),
}

CHAPTER = Exercises("3_embeddings", BEFORE, EXERCISES, given=["watched"])
solution = CHAPTER.solution


def half_way(drawn, picture, target):
    return (drawn + target) / 2


def turned_round(drawn, picture, target):
    return drawn * target / picture


def one_time_for_all_rows(predict, x_0, text, steps, lr, batch, generator):
    def told(x_t, t, text):
        return predict(x_t, t[:1].expand(len(t)), text)

    return solution("find_text")(told, x_0, text, steps, lr, batch, generator)


def without_noise(predict, x_0, text, steps, lr, batch, generator):
    return solution("find_text")(
        lambda x_t, t, text: predict(0 * x_t + x_0, t, text), x_0, text, steps, lr, batch, generator
    )


def never_moves(predict, x_0, text, steps, lr, batch, generator):
    return text + 0 * solution("find_text")(predict, x_0, text, steps, lr, batch, generator)


def the_prompt(goal, text, scale):
    return text


def no_scale(goal, text, scale):
    return goal - text


def past_the_pivot(predict, pivot, text, null, schedule, scale, tries, lr):
    """Aims each step at where it comes from."""
    times = list(pivot)
    late = {t: pivot[times[max(i - 1, 0)]] for i, t in enumerate(times)}
    return solution("search")(predict, late, text, null, schedule, scale, tries, lr)


def without_guidance(predict, pivot, text, null, schedule, scale, tries, lr):
    return solution("search")(predict, pivot, text, null, schedule, 0.0, tries, lr)


def one_more_null(predict, pivot, text, null, schedule, scale, tries, lr):
    return solution("search")(predict, pivot, text, null, schedule, scale, tries, lr) | {-1: null}


MISTAKES = {
    "stop_at": [half_way, turned_round],
    "find_text": [one_time_for_all_rows, without_noise, never_moves],
    "null_for": [the_prompt, no_scale],
    "search": [past_the_pivot, without_guidance, one_more_null],
}
