from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from infer.evaluation.jobs import Job, batches_of
from infer.evaluation.score_record import Row, RowRecord, read_rows
from infer.evaluation.stream import SharedBuffers, TensorStream
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


def test_batches_come_in_order_whole_and_padded_with_zeros():
    jobs = jobs_of([0] * 5 + [1] + [0] * 12)
    with TensorStream(NumberMaker(), (4, 3, 2), workers=2) as stream:  # type: ignore[arg-type]
        found = [
            (batch.jobs, batch.tensor.copy(), batch.faults) for batch in stream.batches(batches_of(jobs, 4))
        ]
        buffers = stream.buffer_bytes
    assert [job.index for batch, _, _ in found for job in batch] == list(range(18))
    rows = np.concatenate([tensor for _, tensor, _ in found])
    assert rows.shape == (20, 3, 2)
    np.testing.assert_array_equal(rows[:, 0, 0], [*range(18), 0, 0])
    assert [fault for _, _, faults in found for fault in faults] == [None] * 5 + ["odd"] + [None] * 12
    # Two batches of 4 x 6 float32, however many are run.
    assert buffers == 2 * 4 * 6 * 4


def test_a_killed_worker_is_told():
    with (
        TensorStream(NumberMaker(), (1, 2), workers=1) as stream,  # type: ignore[arg-type]
        pytest.raises(UnavailableError, match="was killed, most likely for want of memory"),
    ):
        list(stream.batches(batches_of(jobs_of([0, 99, 0]), 1)))


def test_the_memory_has_no_name():
    before = set(Path("/dev/shm").iterdir()) if Path("/dev/shm").is_dir() else set()
    buffers = SharedBuffers(2, (3,), "uint8")
    assert buffers.arrays.shape == (2, 3) and not buffers.arrays.any()
    assert not Path("/dev/shm").is_dir() or set(Path("/dev/shm").iterdir()) == before
    buffers.close()


def test_rows_come_back_bit_for_bit(tmp_path: Path):
    scores = np.array([1 / 3, -0.0, 3e38, 1e-45], np.float32)
    record = RowRecord(tmp_path, {"a": 1})
    record.add([Row(7, 'ein "Name" ✓', 3, scores), Row(2, "b", 0, scores[::-1])])
    record.add([Row(7, "again", 3, scores)])
    record.close()
    first, second = read_rows(record.path)
    assert (first.index, first.id, first.label) == (7, 'ein "Name" ✓', 3)
    assert first.scores.tobytes() == scores.tobytes() and second.index == 2
    assert RowRecord(tmp_path, {"a": 1}).done == {2, 7}
