"""The part of a walk that a share of the time axis leaves to be done."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course.core.schedule import CLEAN, Schedule
from course.core.strength import part_redone


@pytest.mark.parametrize(
    ("steps", "share", "paper", "diffusers"),
    [(50, 0.5, 25, 25), (50, 0.29, 15, 14), (50, 0.58, 29, 28), (10, 1.0, 10, 10), (20, 0.51, 11, 10)],
)
def test_shares_are_of_the_time_axis_and_diffusers_counts_steps(sd15, steps, share, paper, diffusers):
    times = sd15.times(steps)
    assert part_redone(times, sd15, share) == times[-paper - 1 :]
    assert part_redone(times, sd15, share, truncate=True) == times[-diffusers - 1 :]


@given(st.floats(1e-3, 1), st.integers(1, 100), st.sampled_from(["leading", "trailing", "linspace"]))
def test_the_times_are_those_below_the_share(share, steps, spacing):
    schedule = Schedule.from_config({"timestep_spacing": spacing})
    times = schedule.times(steps)
    try:
        found = part_redone(times, schedule, share)
    except ValueError as error:
        assert "leaves none of" in str(error) and share * 1000 <= times[-2]
        return
    assert found == times[-len(found) :] and found[0] < share * 1000
    assert len(found) == len(times) or times[-len(found) - 1] >= share * 1000 - 1e-5


def test_bad_shares_and_times_are_refused_in_the_caller_s_words(sd15):
    for share in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"ratio must be in \(0, 1\]"):
            part_redone(sd15.times(10), sd15, share, name="ratio")
    with pytest.raises(ValueError, match=r"strength 0\.0005 leaves none of 10 steps: raise the strength"):
        part_redone(sd15.times(10), sd15, 0.0005)
    for times in ([], [5], [1, 2], [CLEAN, 1]):
        with pytest.raises(ValueError, match="times must be at least two and fall"):
            part_redone(times, sd15, 0.5)
