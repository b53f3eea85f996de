"""Batches of tensors made by worker processes directly in memory that they share with the engine's process.

Workers are processes, because threads do not suffice: PyAV and short OpenCV calls hold Python's lock often enough
that two threads decode small frames no faster than one. Arrays never travel between processes; a worker receives the
number of the buffer and of the row to fill. The memory has no name on any disk or in /dev/shm (which containers keep
at 64 MB), so that nothing is left of it however the processes end.
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
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from infer.engines.tensor_specs import Array
from infer.evaluation.plan import Job
from preprocess.tensors.pixels import Dtype
from preprocess.tensors.samples import make_sample, open_source
from vidom.errors import BadDataError, UnavailableError
from vidom.formats.frame_naming import FrameNaming
from vidom.formats.views import ViewPlan
from vidom.parallel.workers import start_worker

__all__ = ["FilledBatch", "SampleMaker", "SharedBuffers", "TensorStream"]

_Faults = list[str | None]
# Submitting a task costs as much as decoding a small sample; larger tasks would leave workers idle.
_LARGEST_TASK = 4


@dataclass(frozen=True, eq=False)
class FilledBatch:
    """A batch ready to run: row k of `tensor` is that of `jobs[k]`, or zeros where `faults[k]` gives the reason.

    Rows beyond the jobs are zeros. The tensor is overwritten once the next batch is requested.
    """

    jobs: tuple[Job, ...]
    tensor: Array
    faults: tuple[str | None, ...]


@dataclass(frozen=True)
class SampleMaker:
    """Makes the tensors of samples below `data_root`; picklable, so that every process makes the same ones."""

    views: ViewPlan
    naming: FrameNaming
    data_root: Path
    dtype: Dtype

    def fill(self, job: Job, out: Array) -> str | None:
        """Write the job's tensor to `out`, which has the view plan's sample_shape; or zeros, and return the reason."""
        source = open_source(
            job.annotation,
            data_root=self.data_root,
            pipeline=self.views.pipeline,
            naming=self.naming,
        )
        try:
            make_sample(source, self.views, dtype=self.dtype, out=out)
        except BadDataError as error:
            out[:] = 0
            return str(error)
        return None

    def batch(self, jobs: Sequence[Job], shape: tuple[int, ...]) -> FilledBatch:
        """Return a batch of this shape, made in this process."""
        tensor = np.zeros(shape, self.dtype)
        return FilledBatch(tuple(jobs), tensor, tuple(map(self.fill, jobs, tensor)))


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
        # A descriptor can be passed to a process only while that process is being started.
        return _attach, (*self._layout, DupFd(self._descriptor))

    def close(self) -> None:
        """Stop sharing with further processes; the memory is freed once no array refers to it."""
        os.close(self._descriptor)


def _attach(count: int, shape: tuple[int, ...], dtype: str, descriptor: Any) -> SharedBuffers:
    return SharedBuffers(count, shape, dtype, descriptor.detach())


class TensorStream:
    """Worker processes and the buffers that they fill: as many batches ahead as keep them busy, and no more.

    `shape` is that of a batch. While one batch is used, the others are filled; there are enough of them for two
    samples per worker. A context manager; leaving it stops the workers.
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
        """Yield the batches, in order, each as it is filled; none may have more jobs than the shape has rows.

        Raises UnavailableError when a worker is killed, which is what the system does when memory runs out.
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
                f"One of the {self._workers} workers was killed, probably out of memory. Rerun with fewer --workers; "
                "the run resumes where it stopped."
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


_worker_state: list[tuple[SampleMaker, SharedBuffers]] = []


def _begin(maker: SampleMaker, buffers: SharedBuffers) -> None:
    start_worker()
    _worker_state.append((maker, buffers))


def _fill(number: int, first: int, jobs: tuple[Job, ...]) -> _Faults:
    ((maker, buffers),) = _worker_state
    return [maker.fill(job, buffers.arrays[number, row]) for row, job in enumerate(jobs, first)]
