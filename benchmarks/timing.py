"""Time several ways of doing one thing fairly: in one process, turn by turn."""

import time
from collections.abc import Callable, Mapping
from statistics import median

Times = dict[str, list[float]]  # seconds of each round


def race(
    ways: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> Times:
    """Seconds of each way in each round, after one unmeasured round.

    Each round runs every way once, and begins with another: a machine that slows down slows all of them.
    """
    if not ways or rounds < 1:
        raise ValueError(f"a race needs a way to run and a round or more, got {len(ways)} and {rounds}")
    names = list(ways)
    for name in names:
        ways[name]()
    times: Times = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = clock()
            ways[name]()
            times[name].append(clock() - start)
    return times


def milliseconds(times: Times, name: str) -> float:
    """The median time of a way."""
    return 1000 * median(times[name])


def ratio(times: Times, name: str, to: str) -> float:
    """The median, over the rounds, of one way's time over another's."""
    return median(a / b for a, b in zip(times[name], times[to], strict=True))
