"""What is particular to the checks of chapter 1's assignment."""

from typing import Any

from tests.assignments.assignment_checks import cells_of, failed


def test_a_distance_that_ignores_the_still_part_is_caught() -> None:
    """No answer that is right about the noise is wrong about the rest only, so this one fails two checks."""

    def gain_only(edit: Any, guide: Any) -> float:
        return float(((edit(guide * 0 + 1) - edit(guide * 0)) ** 2).mean())

    assert list(failed(cells_of("1_noise_editing"), {"expected_distance": gain_only})) == [
        "distance_still",
        "distance_noise",
    ]
