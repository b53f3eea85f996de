"""The results of a finished evaluation: metrics, check of the precision, `evaluation.json` and comparison."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from infer.evaluation.comparison import COMPARISON_NAME, Comparison, compare_records
from infer.evaluation.execution import RowSource, RunSummary
from infer.evaluation.plan import Job, Plan
from infer.evaluation.record import RECORD_NAME, read_header, read_rows
from infer.precision_check import DEFAULT_SAMPLES, PrecisionCheck, compare_rows
from postprocess.metrics import Metrics
from postprocess.scored import Scored, write_scored
from vidom.errors import BadDataError
from vidom.files import human_bytes, write_json
from vidom.formats.clip_store import Skipped
from vidom.wording import some

__all__ = ["Evaluation", "conclude", "recheck", "score_record"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation: metrics, unreadable samples, remarks, and what the run took.

    `precision_check` is of bfloat16: what it changes for some samples.
    """

    metrics: Metrics
    metrics_path: Path
    skipped: tuple[Skipped, ...]
    remarks: tuple[str, ...]
    run: RunSummary
    comparison: Comparison | None
    precision_check: PrecisionCheck | None

    @property
    def details(self) -> list[str]:
        """What the run took and left out, a line each."""
        run, lines = self.run, []
        if run.resumed:
            lines.append(f"{run.resumed} samples had been computed by an earlier run.")
        if run.computed:
            lines.append(
                f"{run.computed} samples in {run.seconds:.1f} s: {run.computed / run.seconds:.2f} samples/s; the "
                f"engine was busy for {100 * run.engine_seconds / run.seconds:.0f} % of the time."
            )
        if self.precision_check:
            lines.append(self.precision_check.text)
        if run.peak_disk_bytes:
            lines.append(f"Clips and outputs took at most {human_bytes(run.peak_disk_bytes)} on disk.")
        if self.skipped:
            lines.append(f"{len(self.skipped)} videos could not be read and are not counted:")
            lines += [f"  {one.index} {one.id}: {one.reason}" for one in self.skipped]
        return lines


def conclude(
    plan: Plan,
    run: RunSummary,
    output_dir: Path,
    *,
    compare: Path | None = None,
    source: RowSource | None = None,
) -> Evaluation:
    """Write the metrics of the record in `output_dir`, `evaluation.json` and the comparison, and return all of it.

    `compare` is the record of a reference. Rows that `source` computed in bfloat16 are checked against float32.
    Raises BadDataError when no sample could be read, or as `score_record` does.
    """
    entries = {job.index: job.annotation for job in plan.jobs}
    skipped = tuple(
        Skipped(index, entries[index].id, entries[index].path, run.faults[index])
        for index in sorted(run.faults)
    )
    if len(skipped) == len(plan.jobs):
        raise BadDataError(
            f"None of the {len(skipped)} videos could be read. {skipped[0].id}: {skipped[0].reason}"
        )
    record, metrics = output_dir / RECORD_NAME, output_dir / "metrics.json"
    scored = score_record(record, plan, run.faults, output=metrics)
    check = recheck(plan, source, record) if source else None
    facts = {**_facts(record, scored, skipped, run), **(check.facts if check else {})}
    write_json(output_dir / "evaluation.json", facts)
    comparison = compare_records(record, compare, output=output_dir / COMPARISON_NAME) if compare else None
    return Evaluation(scored.metrics, metrics, skipped, scored.remarks, run, comparison, check)


def score_record(record: Path, plan: Plan, faults: Mapping[int, str], *, output: Path) -> Scored:
    """Write the metrics of the plan's jobs to `output`, without those in `faults`, by index, which were unreadable.

    The bytes are those that packing, inference and `postprocess.score` give for the same samples and scores. Raises
    BadDataError unless the record has exactly one row with a score per class for each of the other jobs, with its id
    and label, and no row of any further sample; and as `write_scored` does.
    """
    jobs = [job for job in plan.jobs if job.index not in faults]
    scores = _scores_of(record, jobs, classes=len(plan.class_names))
    labels = {job.index: job.annotation.label for job in jobs}
    return write_scored(output, scores, labels, names=plan.class_names)


def _scores_of(record: Path, jobs: Sequence[Job], *, classes: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the scores [jobs, classes] in the order of the jobs' indices, each of which has exactly one row."""
    places = {index: place for place, index in enumerate(sorted(job.index for job in jobs))}
    expected = {job.index: (job.annotation.id, job.annotation.label, (classes,)) for job in jobs}
    scores = np.empty((len(jobs), classes), np.float32)
    seen, foreign, duplicate = set(), [], []
    for row in read_rows(record):
        name = f"{row.index} ({row.id})"
        if row.index in seen:
            duplicate.append(name)
        elif expected.get(row.index) == (row.id, row.label, row.scores.shape):
            scores[places[row.index]] = row.scores
            seen.add(row.index)
        else:
            foreign.append(name)
    missing = [f"{job.index} ({job.annotation.id})" for job in jobs if job.index not in seen]
    if foreign or missing or duplicate:
        raise BadDataError(
            f"The record {record} does not match its list: {len(missing)} samples have no row ({some(missing)}), "
            f"{len(duplicate)} samples have several ({some(duplicate)}), {len(foreign)} rows belong to no sample, or "
            f"have a different id, label or class count ({some(foreign)}). "
            "Rerun the command with a different --output_dir."
        )
    return scores


def recheck(plan: Plan, source: RowSource, record: Path) -> PrecisionCheck | None:
    """Return how the rows of the record differ from those in float32; None where they are not in bfloat16.

    32 samples are compared, spread evenly over the list, since lists are often sorted by class. To judge all of them,
    evaluate in float32 too and compare both runs.
    """
    reference = source.reference()
    if reference is None:
        return None
    rows = {row.index: row.scores for row in read_rows(record)}
    jobs = tuple(job for job in plan.jobs if job.index in rows)
    count = min(DEFAULT_SAMPLES, len(jobs))
    _log.info(f"Computing {count} of {len(jobs)} samples in f32 too.")
    subset = replace(plan, jobs=tuple(jobs[place * len(jobs) // count] for place in range(count)))
    model = reference.open()
    results = model.computed(
        reference.blocks(subset, model.identity), workers=1, folder=record.parent, on_bad="skip"
    )
    exact = [row for computed in results for row in computed.rows]
    flips, changes, largest = compare_rows(
        np.stack([row.scores for row in exact]), np.stack([rows[row.index] for row in exact])
    )
    return PrecisionCheck(len(exact), len(jobs), len(exact), flips, changes, largest)


def _facts(record: Path, scored: Scored, skipped: Sequence[Skipped], run: RunSummary) -> dict[str, Any]:
    return {
        **read_header(record),
        "evaluated": scored.metrics.n,
        "top1": scored.metrics.top1.value,
        "top5": scored.metrics.top5.value,
        "resumed": run.resumed,
        "seconds": run.seconds,
        "engine_seconds": run.engine_seconds,
        "peak_disk_bytes": run.peak_disk_bytes,
        "skipped": [{"index": one.index, "id": one.id, "reason": one.reason} for one in skipped],
        "remarks": list(scored.remarks),
    }
