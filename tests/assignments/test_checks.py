"""The checks of every assignment, checked: what they let pass, and what they say of a mistake."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from course.grading.grade import grade
from course.grading.limits import Limits
from course.grading.release import release
from course.grading.sandbox import find_isolation
from tests.assignments.assignment_checks import ASSIGNMENTS, CHAPTERS, cells_of, failed, load, wrong_answers

POINTS = 20
TWO_AT_ONCE = {"1_noise_editing": {"distance_still"}}  # checks that no mistake fails alone; tested by chapter
WRONG = [(chapter, path) for chapter in CHAPTERS for path in wrong_answers(chapter)]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_solution_passes_every_check(chapter: str) -> None:
    cells = cells_of(chapter)
    assert failed(cells, {}) == {}
    assert sum(cell.points for cell in cells) == POINTS


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_empty_stub_fails_every_check(chapter: str) -> None:
    cells = cells_of(chapter)
    said = failed(cells, None)
    assert set(said) == {cell.grade_id for cell in cells if cell.role == "check"}
    assert {text.split(":")[0] for text in said.values()} == {"NotImplementedError"}


@pytest.mark.parametrize(
    ("chapter", "path"), WRONG, ids=[f"{chapter}-{path.stem}" for chapter, path in WRONG]
)
def test_a_wrong_answer_fails_the_check_that_names_it_and_no_other(chapter: str, path: Path) -> None:
    wrong = load(path)
    mistaken = {
        name: value for name, value in vars(wrong).items() if getattr(value, "__module__", "") == path.stem
    }
    assert len(mistaken) == 1, "a wrong answer is one function"
    said = failed(cells_of(chapter), mistaken)
    assert list(said) == [wrong.CHECK]
    assert re.search(wrong.SAYS, said[wrong.CHECK]), said[wrong.CHECK]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_check_has_a_wrong_answer_that_only_it_catches(chapter: str) -> None:
    caught = {load(path).CHECK for path in wrong_answers(chapter)}
    checks = {cell.grade_id for cell in cells_of(chapter) if cell.role == "check"}
    assert caught == checks - TWO_AT_ONCE.get(chapter, set())


@dataclass(frozen=True)
class Slip:
    """A mistake in the solution, the check that finds it, what that says, and the points it costs."""

    right: str
    wrong: str
    check: str
    says: str
    points: int


SLIPS = {
    "1_noise_editing": Slip("start > step.s", "start >= step.s", "edit_release", "had already moved", 3),
    "2_inversion": Slip(
        "x, y = blend(x, pairs[s][0], mask), blend(y, pairs[s][1], mask)",
        "x, y = blend(x, pairs[t][0], mask), blend(y, pairs[t][1], mask)",
        "edit_levels",
        "one step too noisy",
        3,
    ),
    "3_embeddings": Slip("x = levels[skip]\\n", "x = levels[0]\\n", "edit_back", "start at levels[4]", 2),
    "4_attention": Slip("value[::2].repeat_interleave(2, 0)", "value", "mutual_edit", "its own values", 2),
}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_released_submitted_and_graded(chapter: str, tmp_path: Path, bubblewrap: str) -> None:
    """Through the whole machine, with torch on both sides: solution, empty stub, and one mistake."""
    folder, submitted, slip = ASSIGNMENTS / chapter, tmp_path / "submitted", SLIPS[chapter]
    copy = release(folder, tmp_path / "release").read_text("utf8")
    solved = (folder / f"{chapter}.ipynb").read_text("utf8")
    slipped = solved.replace(slip.right, slip.wrong)
    assert slipped != solved
    for name, text in {"solved": solved, "empty": copy, "wrong": slipped}.items():
        (submitted / name / chapter).mkdir(parents=True)
        (submitted / name / chapter / f"{chapter}.ipynb").write_text(text, "utf8")
    isolation = find_isolation(bubblewrap)
    assert isolation.on, isolation.reason
    patient = Limits(cell_seconds=300, total_seconds=1200)  # importing torch may take long on a busy machine
    summary = grade(folder, submitted, tmp_path / "graded", isolation=isolation, limits=patient)
    points = {student["name"]: student["points"] for student in summary["students"]}
    lost = [check for student in summary["students"] for check in student["checks"] if not check["passed"]]
    assert points == {"solved": POINTS, "empty": 0, "wrong": POINTS - slip.points}, lost
    [mistake] = [check for check in summary["students"][2]["checks"] if not check["passed"]]
    assert mistake["id"] == slip.check and slip.says in mistake["message"]
