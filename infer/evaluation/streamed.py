"""An evaluation by an engine in this process: tensors go from decoding to the engine through memory alone."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from infer.engines.base import Engine
from infer.evaluation.jobs import Job, batches_of
from infer.evaluation.plan import OnBad, Plan, Ran, unreadable
from infer.evaluation.sample_maker import SampleMaker, check_fit, sample_dtype
from infer.evaluation.score_record import Row, RowRecord
from infer.evaluation.stream import FilledBatch, TensorStream
from vidom.files import human_bytes
from vidom.progress import progress

__all__ = ["batch_rows", "engine_header", "run_streamed"]

_log = logging.getLogger(__name__)


def run_streamed(plan: Plan, engine: Engine, output_dir: Path, *, workers: int, on_bad: OnBad) -> Ran:
    """The record in `output_dir` has a row for each job that could be read.

    Batches are made of the same jobs however often the run was killed, so that each row is computed in the same
    company. Raises UsageError when the model does not fit or the folder holds another record, BadDataError at the first
    unreadable sample unless `on_bad` is "skip".
    """
    check_fit(engine.path, engine.inputs, engine.outputs, plan.recipe)
    (spec,) = engine.inputs
    maker = SampleMaker(plan.recipe, plan.data_root, sample_dtype(spec))
    record = RowRecord(output_dir, plan.header(engine.path, **engine_header(engine)))
    resumed, faults, engine_seconds = len(record.done), dict[int, str](), 0.0
    todo = [
        jobs for jobs in batches_of(plan.jobs, spec.rows) if not all(job.index in record.done for job in jobs)
    ]
    began = time.perf_counter()
    with (
        progress(total=len(plan.jobs), unit="sample", label="evaluate", done=resumed) as bar,
        TensorStream(maker, spec.by_sample, workers=workers) as stream,
        closing(record),
    ):
        _log.info(f"{workers} decoding processes fill {human_bytes(stream.buffer_bytes)} of buffers.")
        for batch in stream.batches(todo):
            bad = _faults(batch)
            if bad and on_bad == "fail":
                raise unreadable(*bad[0])
            faults |= {job.index: reason for job, reason in bad}
            before, started = len(record.done), time.perf_counter()
            rows = batch_rows(engine, batch)
            engine_seconds += time.perf_counter() - started
            record.add(rows)
            bar.update(len(record.done) - before + len(bad))
    return Ran(faults, resumed, len(record.done) - resumed, time.perf_counter() - began, engine_seconds)


def batch_rows(engine: Engine, batch: FilledBatch) -> list[Row]:
    """Return the scores of the batch's jobs that could be read; rows of padding are left out."""
    if all(batch.faults):
        return []
    scores = np.asarray(engine.run([batch.tensor.reshape(engine.inputs[0].shape)])[0], np.float32)
    return [
        Row(job.index, job.annotation.id, job.annotation.label, row)
        for job, row, fault in zip(batch.jobs, scores, batch.faults, strict=False)
        if fault is None
    ]


def _faults(batch: FilledBatch) -> list[tuple[Job, str]]:
    return [(job, fault) for job, fault in zip(batch.jobs, batch.faults, strict=True) if fault is not None]


def engine_header(engine: Engine) -> dict[str, Any]:
    """Return the engine's part of `Plan.header`: its keywords."""
    return {
        "engine": f"{engine.name}, {engine.device}",
        "engine_version": engine.version,
        "batch_size": engine.inputs[0].rows,
        "facts": engine.facts,
    }
