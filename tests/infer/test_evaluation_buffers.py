from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from infer.evaluation.buffers import SharedBuffers, TensorStream
from infer.evaluation.plan import Job, batches_of
from preprocess.datasets.annotations import Annotation
from vidom.errors import UnavailableError


@dataclass(frozen=True)
class NumberMaker:
    """Fills a row with the job's index; an odd label is a fault, and the label 99 kills the worker."""

    dtype: str = "float32"

    def fill(self, job: Job, out: np.ndarray) -> str | None:
        if job.annotation.label == 99:
            os.kill(os.getpid(), signal.SIGKILL)
        # Later rows are ready first.
        time.sleep(0.002 * (4 - job.index % 4))
        out[:] = job.index
        return "odd" if job.annotation.label % 2 else None


def jobs_of(labels: list[int]) -> list[Job]:
    return [Job(index, Annotation(str(index), str(index), None, label)) for index, label in enumerate(labels)]


@pytest.mark.slow
def test_batches_come_in_order_complete_and_padded_with_zeros():
    jobs = jobs_of([0] * 5 + [1] + [0] * 12)
    with TensorStream(NumberMaker(), (4, 3, 2), workers=2) as stream:  # type: ignore[arg-type]
        batches = [
            (batch.jobs, batch.tensor.copy(), batch.faults) for batch in stream.batches(batches_of(jobs, 4))
        ]
        buffers = stream.buffer_bytes
    assert [job.index for batch, _, _ in batches for job in batch] == list(range(18))
    rows = np.concatenate([tensor for _, tensor, _ in batches])
    assert rows.shape == (20, 3, 2)
    np.testing.assert_array_equal(rows[:, 0, 0], [*range(18), 0, 0])
    assert [fault for _, _, faults in batches for fault in faults] == [None] * 5 + ["odd"] + [None] * 12
    # Two batches of 4 x 6 float32, however many are run.
    assert buffers == 2 * 4 * 6 * 4


def test_a_killed_worker_is_reported():
    with (
        TensorStream(NumberMaker(), (1, 2), workers=1) as stream,  # type: ignore[arg-type]
        pytest.raises(UnavailableError, match="was killed, probably out of memory"),
    ):
        list(stream.batches(batches_of(jobs_of([0, 99, 0]), 1)))


def test_the_memory_has_no_name():
    before = set(Path("/dev/shm").iterdir()) if Path("/dev/shm").is_dir() else set()
    buffers = SharedBuffers(2, (3,), "uint8")
    assert buffers.arrays.shape == (2, 3) and not buffers.arrays.any()
    assert not Path("/dev/shm").is_dir() or set(Path("/dev/shm").iterdir()) == before
    buffers.close()
