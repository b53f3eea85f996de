"""Batches of tensors made by worker processes straight into memory that they share with the engine's process.

Workers are processes, because threads do not suffice: PyAV and short OpenCV calls hold Python's lock often enough
that two threads decode small frames no faster than one. Arrays never travel between processes; a worker is told
which row of which buffer to fill. The memory has no name on any disk or in /dev/shm (which containers keep at
64 MB), so that nothing is left of it however the processes end.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from types import TracebackType
from typing import Any

import numpy as np

from infer.engines.tensor_specs import Array
from infer.evaluation.jobs import Job
from infer.evaluation.sample_maker import SampleMaker
from vidom.errors import UnavailableError
from vidom.parallel.workers import start_worker

__all__ = ["FilledBatch", "SharedBuffers", "TensorStream"]

_Faults = list[str | None]
# Handing out a task costs as much as decoding a small sample; more than a few would leave workers without any.
_LARGEST_TASK = 4


@dataclass(frozen=True, eq=False)
class FilledBatch:
    """A batch ready to run: row k of `tensor` is that of `jobs[k]`, or zeros where `faults[k]` says why.

    Rows beyond the jobs are zeros. The tensor is overwritten once the next batch is asked for.
    """

    jobs: tuple[Job, ...]
    tensor: Array
    faults: tuple[str | None, ...]


class SharedBuffers:
    """`count` arrays of one shape in memory that spawned processes see too, all zeros at first."""

    def __init__(self, count: int, shape: tuple[int, ...], dtype: str, descriptor: int | None = None) -> None:
        self._layout = (count, shape, dtype)
        size = count * int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._descriptor = os.memfd_create("vidom batches") if descriptor is None else descriptor
        if descriptor is None:
            os.ftruncate(self._descriptor, size)
        self.arrays: Array = np.frombuffer(mmap.mmap(self._descriptor, size), dtype).reshape(count, *shape)

    def __reduce__(self) -> tuple[Any, ...]:
        # Only while a process is being started can a descriptor be handed to it.
        return _attach, (*self._layout, DupFd(self._descriptor))

    def close(self) -> None:
        """No further process can see the arrays; their memory is free once no array refers to it."""
        os.close(self._descriptor)


def _attach(count: int, shape: tuple[int, ...], dtype: str, descriptor: Any) -> SharedBuffers:
    return SharedBuffers(count, shape, dtype, descriptor.detach())


class TensorStream:
    """Worker processes and the buffers that they fill: as many batches ahead as keep them busy, and no more.

    `shape` is a batch's. While a batch is used, the others are filled; there are so many that two samples for each
    worker are under way. For use in a `with` statement; its end stops the workers.
    """

    def __init__(self, maker: SampleMaker, shape: tuple[int, ...], *, workers: int) -> None:
        ahead = -(-2 * workers // shape[0])
        self._buffers = SharedBuffers(1 + ahead, shape, maker.dtype)
        self._workers = workers
        # A fresh interpreter for each: forking a process that has used OpenCV's or the engine's threads can deadlock.
        self._pool = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(maker, self._buffers),
        )

    def __enter__(self) -> TensorStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._buffers.close()

    @property
    def buffer_bytes(self) -> int:
        """Bytes of all buffers together."""
        return self._buffers.arrays.nbytes

    def batches(self, batches: Iterable[Sequence[Job]]) -> Iterator[FilledBatch]:
        """Yield the batches, in order, each as it is filled; none has more jobs than the batch has rows.

        Raises UnavailableError when a worker is killed, as for want of memory.
        """
        free = deque(range(len(self._buffers.arrays)))
        waiting: deque[tuple[int, tuple[Job, ...], list[Future[_Faults]]]] = deque()
        try:
            for jobs in batches:
                if not free:
                    yield self._filled(*waiting[0])
                    free.append(waiting.popleft()[0])
                number = free.popleft()
                waiting.append((number, tuple(jobs), self._submit(number, jobs)))
            while waiting:
                yield self._filled(*waiting.popleft())
        except BrokenProcessPool:
            raise UnavailableError(
                f"One of the {self._workers} workers was killed, most likely for want of memory. Run the same command "
                "again with fewer --workers; it continues where it stopped."
            ) from None

    def _submit(self, number: int, jobs: Sequence[Job]) -> list[Future[_Faults]]:
        self._buffers.arrays[number, len(jobs) :] = 0
        step = min(_LARGEST_TASK, -(-len(jobs) // self._workers))
        return [
            self._pool.submit(_fill, number, first, tuple(jobs[first : first + step]))
            for first in range(0, len(jobs), step)
        ]

    def _filled(self, number: int, jobs: tuple[Job, ...], futures: list[Future[_Faults]]) -> FilledBatch:
        faults = tuple(fault for future in futures for fault in future.result())
        return FilledBatch(jobs, self._buffers.arrays[number], faults)


_at_work: list[tuple[SampleMaker, SharedBuffers]] = []


def _begin(maker: SampleMaker, buffers: SharedBuffers) -> None:
    start_worker()
    _at_work.append((maker, buffers))


def _fill(number: int, first: int, jobs: tuple[Job, ...]) -> _Faults:
    ((maker, buffers),) = _at_work
    return [maker.fill(job, buffers.arrays[number, row]) for row, job in enumerate(jobs, first)]
