"""The exercises on choosing an editor, and typical mistakes."""

from statistics import fmean, pstdev, stdev

from tests.solutions.exercises import Exercises

LESSON = "5_which_editor"
EXERCISES = {"unbeaten": (LESSON, "exercise-1"), "paired": (LESSON, "exercise-2")}
CHAPTER = Exercises("4_attention", {LESSON: ["full-table", "verdict"]}, EXERCISES)
solution = CHAPTER.solution


def strictly_in_both(points):
    def beaten(point):
        return any(kept > point[0] and success > point[1] for kept, success in points.values())

    return {name for name, point in points.items() if not beaten(point)}


def equals_beat(points):
    return {
        name
        for name, (kept, success) in points.items()
        if not any(k >= kept and s >= success for other, (k, s) in points.items() if other != name)
    }


def best_of_each(points):
    return {max(points, key=lambda name: points[name][i]) for i in (0, 1)}


def beaten_ones(points):
    return set(points) - solution("unbeaten")(points)


def other_way_round(a, b):
    return solution("paired")(b, a)


def spread_of_the_differences(a, b):
    gaps = [mine - yours for mine, yours in zip(a, b, strict=True)]
    return fmean(gaps), stdev(gaps)


def of_the_population(a, b):
    gaps = [mine - yours for mine, yours in zip(a, b, strict=True)]
    return fmean(gaps), pstdev(gaps) / len(gaps) ** 0.5


def unpaired(a, b):
    return fmean(a) - fmean(b), (stdev(a) ** 2 / len(a) + stdev(b) ** 2 / len(b)) ** 0.5


MISTAKES = {
    "unbeaten": [strictly_in_both, equals_beat, best_of_each, beaten_ones],
    "paired": [other_way_round, spread_of_the_differences, of_the_population, unpaired],
}
