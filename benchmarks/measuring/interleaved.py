"""Interleaved timing of variants of the same work."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from vidom.errors import UsageError

__all__ = ["interleave", "interleave_opened"]

_LEAST, _MOST, _ENOUGH = 2, 10, 1.0


def interleave(variants: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, float]:
    """Return the seconds of the fastest run of each variant, by its name.

    The variants are interleaved, A B C A B C, so that other load on the machine affects all of them equally; the
    fastest run is the least disturbed one. A first run of each warms caches and is not counted. Raises UsageError
    for fewer than one round.
    """
    if rounds < 1:
        raise UsageError(f"--rounds must be at least 1, not {rounds}.")
    fastest = dict.fromkeys(variants, math.inf)
    for number in range(rounds + 1):
        for name, work in variants.items():
            seconds = _seconds(work)
            if number:
                fastest[name] = min(fastest[name], seconds)
    return fastest


def interleave_opened(
    variants: Mapping[str, Callable[[], AbstractContextManager[Callable[[], object]]]], *, rounds: int
) -> dict[str, float]:
    """Return the same as `interleave` for variants that need too much memory to be open at the same time.

    In each round every variant is opened, run and closed; only the runs are timed. A first run is not counted, then
    there are two, or up to ten while they take less than a second in total. Raises UsageError for fewer than one
    round.
    """
    if rounds < 1:
        raise UsageError(f"--rounds must be at least 1, not {rounds}.")
    fastest = dict.fromkeys(variants, math.inf)
    for _ in range(rounds):
        for name, open_variant in variants.items():
            fastest[name] = min(fastest[name], _timed_round(open_variant))
    return fastest


def _timed_round(open_variant: Callable[[], AbstractContextManager[Callable[[], object]]]) -> float:
    # A separate function, so that no object of the variant is alive when the next one is opened.
    with open_variant() as work:
        work()
        runs: list[float] = []
        while len(runs) < _LEAST or (len(runs) < _MOST and sum(runs) < _ENOUGH):
            runs.append(_seconds(work))
        return min(runs)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
