"""The same function over many items, in several processes, results in the items' order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from vidom.parallel.workers import each_finished
from vidom.progress import progress

__all__ = ["each"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, label: str
) -> Iterator[Result]:
    """Yield `function(item)` for every item, in order, computed by `workers` processes, with progress.

    `function` must be importable by name. With one worker, or next to nothing to do, no process is started.
    """
    if len(items) < 2 * workers:
        workers = 1
    early: dict[int, Result] = {}
    turn = 0
    with progress(total=len(items), unit="clip", label=label) as bar:
        for number, result in each_finished(partial(_numbered, function), enumerate(items), workers=workers):
            bar.update()
            early[number] = result
            while turn in early:
                yield early.pop(turn)
                turn += 1


def _numbered(function: Callable[[Item], Result], job: tuple[int, Item]) -> tuple[int, Result]:
    number, item = job
    return number, function(item)
