"""Ways of doing the same thing, timed in turn."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from vidom.errors import UsageError

__all__ = ["rotate", "rotate_opened"]

_LEAST, _MOST, _ENOUGH = 2, 10, 1.0


def rotate(ways: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, float]:
    """Return the seconds of the fastest run of each way, by its name.

    The ways run in turn, A B C A B C, so that what else the machine does meets all of them alike, and the fastest
    run is the one that was disturbed least. A first run of each warms caches and is not counted. Raises UsageError
    for fewer than one round.
    """
    if rounds < 1:
        raise UsageError(f"--rounds must be at least 1, found {rounds}.")
    fastest = dict.fromkeys(ways, math.inf)
    for number in range(rounds + 1):
        for name, work in ways.items():
            seconds = _seconds(work)
            if number:
                fastest[name] = min(fastest[name], seconds)
    return fastest


def rotate_opened(
    ways: Mapping[str, Callable[[], AbstractContextManager[Callable[[], object]]]], *, rounds: int
) -> dict[str, float]:
    """Return what `rotate` does for ways that need too much memory to be there side by side.

    Each way is opened when its turn comes and closed after it; only the work that the open one yields is timed. A
    turn is a run that is not counted and then two, or up to ten while they take less than a second together. Raises
    UsageError for fewer than one round.
    """
    if rounds < 1:
        raise UsageError(f"--rounds must be at least 1, found {rounds}.")
    fastest = dict.fromkeys(ways, math.inf)
    for _ in range(rounds):
        for name, open_way in ways.items():
            fastest[name] = min(fastest[name], _turn(open_way))
    return fastest


def _turn(open_way: Callable[[], AbstractContextManager[Callable[[], object]]]) -> float:
    # A function of its own, so that nothing of the way is alive when the next is opened.
    with open_way() as work:
        work()
        runs: list[float] = []
        while len(runs) < _LEAST or (len(runs) < _MOST and sum(runs) < _ENOUGH):
            runs.append(_seconds(work))
        return min(runs)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
