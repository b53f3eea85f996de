"""The same function over many items, in several processes, results in the items' order."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import cv2

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
    with progress(total=len(items), unit="clip", label=label) as bar:
        if workers == 1 or len(items) < 2 * workers:
            results = map(function, items)
            yield from _counted(results, bar.update)
            return
        # Not forked: a process that has used OpenCV's threads can deadlock in its copies.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
            try:
                yield from _counted(pool.map(function, items, chunksize=4), bar.update)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _counted(results: Iterator[Result], count: Callable[[], object]) -> Iterator[Result]:
    for result in results:
        count()
        yield result


def _one_thread() -> None:
    cv2.setNumThreads(1)
