"""Cores of a process, and times of several implementations of one computation, called in turn."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

PAUSE = 0.01
"""Seconds before a call where there are several cores: threads of another library that wait actively then sleep."""


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_cores(number: int) -> None:
    """Restricts this process to so many cores, before JAX starts: XLA has no option for its threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:number])


class Spent(NamedTuple):
    """Seconds of one call, on the clock and of all threads together."""

    wall: float
    processor: float


def take_turns(
    sides: Mapping[str, Callable[[Any], Any]], fresh: Callable[[int], Any], rounds: int, warm_up: int = 2
) -> dict[str, list[Spent]]:
    """Calls each side once per round.

    Args:
      sides: implementations, which return when they have computed.
      fresh: inputs of a round, from its number.
      rounds: rounds whose times are returned.
      warm_up: rounds before these, in which programs are compiled.

    Returns:
      The times of each side, one per round.
    """
    times: dict[str, list[Spent]] = {name: [] for name in sides}
    pause = PAUSE if cores() > 1 else 0.0
    for number in range(warm_up + rounds):
        inputs = fresh(number)
        for name, side in sides.items():
            time.sleep(pause)
            start = time.perf_counter(), time.process_time()
            side(inputs)
            spent = Spent(time.perf_counter() - start[0], time.process_time() - start[1])
            if number >= warm_up:
                times[name].append(spent)
    return times


def medians(times: Mapping[str, list[Spent]]) -> dict[str, float]:
    """Median seconds of each side on the clock."""
    return {name: statistics.median(spent.wall for spent in taken) for name, taken in times.items()}
