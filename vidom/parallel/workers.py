"""Apply a function to many jobs in several processes, with a bounded number of jobs in flight."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import wait as wait_for_sentinels
from typing import TypeVar

import cv2

from vidom.errors import UnavailableError
from vidom.parallel.ray_cluster import RayCluster
from vidom.parallel.ray_workers import each_finished_on_ray

__all__ = ["block_size", "each_finished", "start_worker"]

Job = TypeVar("Job")
Result = TypeVar("Result")
_LARGEST_BLOCK = 8


def each_finished(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    *,
    workers: int,
    at_once: int = 1,
    cluster: RayCluster | None = None,
) -> Iterator[Result]:
    """Yield `function(job)` for every job, in the order in which they finish; on the `cluster` where one is given.

    `function` must be importable by name, jobs and results picklable. With one worker everything happens in
    this process, in order. Workers end with this process, however it ends, so that a run that is started
    again finds no process still writing. A worker is handed `at_once` jobs together: handing one over takes this
    process half a millisecond, which counts where a job takes a few. Raises UnavailableError when a worker is killed,
    for example by the out-of-memory killer.
    """
    if cluster is not None:
        yield from each_finished_on_ray(function, tuple(jobs), cluster=cluster)
        return
    if workers == 1:
        yield from map(function, jobs)
        return
    # A fresh interpreter for each worker: forking a process that has used OpenCV's threads can deadlock.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker) as pool:
        source = iter(jobs)
        waiting = iter(lambda: tuple(islice(source, at_once)), ())
        running: set[Future[list[Result]]] = {
            pool.submit(_each, function, block) for block in islice(waiting, 2 * workers)
        }
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(_each, function, block) for block in islice(waiting, len(done))}
                for future in done:
                    yield from future.result()
        except BrokenProcessPool:
            raise UnavailableError(
                f"One of the {workers} workers was killed, probably out of memory. Run the same command "
                "again with fewer --workers; it continues where it stopped."
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def block_size(jobs: int, *, workers: int) -> int:
    """Return how many short jobs to hand over at once, so few that no worker is left without work at the end."""
    return min(_LARGEST_BLOCK, max(1, jobs // (16 * workers)))


def _each(function: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
    return [function(job) for job in jobs]


def start_worker() -> None:
    """Set up a worker: decode on one thread, leave Ctrl-C to the parent and end with it."""
    cv2.setNumThreads(1)
    # Ctrl-C reaches the whole group; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_sentinels([parent.sentinel])
        os._exit(1)
