"""What bfloat16 changes of an evaluation: some of its samples computed in float32 too."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from infer.evaluation.jobs import batches_of
from infer.evaluation.plan import Plan
from infer.evaluation.ray_stages import EngineOptions
from infer.evaluation.sample_maker import SampleMaker, sample_dtype
from infer.evaluation.score_record import read_rows
from infer.evaluation.stream import FilledBatch
from infer.evaluation.streamed import batch_rows
from infer.precision_check import DEFAULT_SAMPLES, PrecisionCheck, compare_rows

__all__ = ["recheck"]

_log = logging.getLogger(__name__)


def recheck(plan: Plan, options: EngineOptions, record: Path) -> PrecisionCheck | None:
    """Return how the rows of the record differ from those in float32; None where they are not in bfloat16.

    Compared are 32 samples, spread evenly over the list, since lists are often sorted by class. For a judgement of
    all of them evaluate in float32 too and compare both runs.
    """
    if options.precision != "bf16":
        return None
    rows = {row.index: row.scores for row in read_rows(record)}
    jobs = [job for job in plan.jobs if job.index in rows]
    count = min(DEFAULT_SAMPLES, len(jobs))
    _log.info(f"Computing {count} of {len(jobs)} samples in f32 too.")
    engine = replace(options, precision="f32").open()
    (spec,) = engine.inputs
    maker = SampleMaker(plan.recipe, plan.data_root, sample_dtype(spec))
    wanted, found = [], []
    for batch in batches_of([jobs[place * len(jobs) // count] for place in range(count)], spec.rows):
        tensor = np.zeros(spec.by_sample, spec.dtype)
        faults = tuple(maker.fill(job, out) for job, out in zip(batch, tensor, strict=False))
        for row in batch_rows(engine, FilledBatch(batch, tensor, faults)):
            wanted.append(row.scores)
            found.append(rows[row.index])
    flips, changes, largest = compare_rows(np.stack(wanted), np.stack(found))
    return PrecisionCheck(len(wanted), len(jobs), len(wanted), flips, changes, largest)
