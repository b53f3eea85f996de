"""Ways of doing the same thing, timed in turn."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from vidom.errors import UsageError

__all__ = ["rotate"]


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
            began = time.perf_counter()
            work()
            seconds = time.perf_counter() - began
            if number:
                fastest[name] = min(fastest[name], seconds)
    return fastest
