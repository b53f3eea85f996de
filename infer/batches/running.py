"""Run batches one after the other, time them, and split their outputs into files as ais_bench does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from infer.batches.batch_plan import BatchPlan
from infer.batches.journal import BatchRecord, RunJournal
from infer.batches.reading import ReadBatch
from infer.engines.base import ArrayEngine
from infer.engines.tensor_specs import Array
from vidom.errors import UsageError
from vidom.formats.engine_outputs import OutputFormat, encode_output, output_stem
from vidom.progress import progress

__all__ = ["Execution", "output_names", "run_batches", "split_outputs", "warm_up"]


@dataclass(frozen=True)
class Execution:
    """How batches are run: each `loop` times, outputs split along `axis` and written as `outfmt`."""

    outfmt: OutputFormat
    loop: int
    axis: int


def warm_up(engine: ArrayEngine, read: ReadBatch, count: int) -> None:
    """Run the first batch `count` times and discard its outputs, as ais_bench does."""
    arrays = read(0)
    for _ in range(count):
        engine.run(arrays)


def run_batches(
    engine: ArrayEngine,
    plan: BatchPlan,
    read: ReadBatch,
    journal: RunJournal | None,
    how: Execution,
) -> list[BatchRecord]:
    """Run every batch and, with a journal, write and record it; return all records in order.

    Batches that the journal lists as finished are not run again.
    """
    records = dict(journal.done) if journal else {}
    finished = sum(len(plan.batch(number)) for number in records)
    with progress(total=len(plan.entries), unit="file", label="infer", done=finished) as bar:
        for number in range(plan.runs):
            if number in records:
                continue
            started = time.perf_counter()
            outputs, times = _timed_run(engine, read(number), how.loop)
            written: tuple[tuple[str, int], ...] = ()
            if journal:
                written = _write(journal, plan, number, outputs, how)
            seconds = time.perf_counter() - started
            records[number] = BatchRecord(
                number, seconds, times.compute_ms, times.h2d_ms, times.d2h_ms, written
            )
            if journal:
                journal.add(records[number])
            bar.update(len(plan.batch(number)))
    return [records[number] for number in range(plan.runs)]


def output_names(stem: str, outputs: int, outfmt: OutputFormat) -> list[str]:
    """Return the names `{stem}_{k}.{ext}` of the files that hold the model's outputs for one input file."""
    return [f"{stem}_{number}.{outfmt.lower()}" for number in range(outputs)]


def split_outputs(outputs: Sequence[Array], files: int, axis: int) -> list[list[Array]]:
    """Return for each of the batch's `files` its share of every output, cut along `axis`.

    Raises UsageError when an output has no such axis or it cannot be split evenly.
    """
    for number, output in enumerate(outputs):
        if axis >= output.ndim or (files > 1 and output.shape[axis] % files):
            raise UsageError(
                f"Output {number} of the model has shape {output.shape}, which --output_batchsize_axis {axis} "
                f"cannot split into the {files} files of a batch. Give the batch axis."
            )
    pieces = [np.array_split(output, files, axis) for output in outputs]
    return [list(share) for share in zip(*pieces, strict=True)]


@dataclass(frozen=True)
class _Times:
    h2d_ms: float
    compute_ms: tuple[float, ...]
    d2h_ms: float


def _timed_run(engine: ArrayEngine, arrays: Sequence[Array], loop: int) -> tuple[list[Array], _Times]:
    ticks = [time.perf_counter()]
    feeds = engine.upload(arrays)
    ticks.append(time.perf_counter())
    for _ in range(loop):
        values = engine.execute(feeds)
        ticks.append(time.perf_counter())
    outputs = engine.download(values)
    ticks.append(time.perf_counter())
    h2d, *compute, d2h = (1000 * (end - start) for start, end in pairwise(ticks))
    return outputs, _Times(h2d, tuple(compute), d2h)


def _write(
    journal: RunJournal,
    plan: BatchPlan,
    number: int,
    outputs: Sequence[Array],
    how: Execution,
) -> tuple[tuple[str, int], ...]:
    shares = split_outputs(outputs, plan.files_per_batch, how.axis)
    # The shares beyond the batch's real entries are those of the padding.
    return tuple(
        journal.write(name, encode_output(array, how.outfmt))
        for entry, share in zip(plan.batch(number), shares, strict=False)
        for name, array in zip(
            output_names(output_stem(entry[0].path), len(share), how.outfmt), share, strict=True
        )
    )
