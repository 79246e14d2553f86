"""Which part of a walk is walked, when a share of the time axis is to be redone."""

from collections.abc import Sequence
from itertools import pairwise

from course.core.schedule import Schedule


def part_redone(
    times: Sequence[int], schedule: Schedule, share: float, *, truncate: bool = False, name: str = "strength"
) -> list[int]:
    """The times below share * T, on the time axis 0..T of the schedule, and the last time.

    truncate: the last int(steps * share) steps, as in diffusers, where rounding can cost a step:
    int(50 * 0.29) is 14. name: what the caller calls the share, for the messages.
    Raises ValueError for a share outside (0, 1], for one that leaves no step, and unless times fall.
    """
    if len(times) < 2 or any(t <= s for t, s in pairwise(times)):
        raise ValueError(
            f"times must be at least two and fall, as schedule.times(steps) does; got {list(times)[:8]}"
        )
    if not 0 < share <= 1:
        raise ValueError(f"{name} must be in (0, 1] (1 redoes the whole walk), got {share}")
    steps = len(times) - 1
    if truncate:
        left = min(int(steps * share), steps)
    else:
        # The rounding keeps 0.07 * 1000 = 70.00000000000001 from letting time 70 in.
        left = sum(t < round(share * len(schedule.alpha_bar), 6) for t in times[:-1])
    if left == 0:
        raise ValueError(f"{name} {share} leaves none of {steps} steps: raise the {name}, or take more steps")
    return list(times[steps - left :])
