"""From the record of an evaluation to its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from infer.evaluation.jobs import Job
from infer.evaluation.score_record import read_rows
from postprocess.scored import Scored, write_scored
from vidom.errors import BadDataError
from vidom.formats.recipe import Recipe
from vidom.wording import some

__all__ = ["METRICS_NAME", "score_record"]

METRICS_NAME = "metrics.json"


def score_record(
    record: Path, jobs: Sequence[Job], faults: Mapping[int, str], *, recipe: Recipe, output: Path
) -> Scored:
    """`output` holds the metrics of the jobs but for those in `faults`, by index, which could not be read.

    The bytes are those that packing, inference and `postprocess.score` give for the same samples and scores.
    Raises BadDataError unless the record has exactly one row of the recipe's classes for each of the other jobs, with its
    id and label, and no row of any further sample; and as `write_scored` does.
    """
    read = [job for job in jobs if job.index not in faults]
    labels = {job.index: job.annotation.label for job in read}
    place = {index: position for position, index in enumerate(sorted(labels))}
    scores = np.empty((len(labels), recipe.dataset.num_classes), np.float32)
    due = {job.index: (job.annotation.id, job.annotation.label, scores.shape[1:]) for job in read}
    found, strange, double = set(), [], []
    for row in read_rows(record):
        told = f"{row.index} ({row.id})"
        if row.index in found:
            double.append(told)
        elif due.get(row.index) == (row.id, row.label, row.scores.shape):
            scores[place[row.index]] = row.scores
            found.add(row.index)
        else:
            strange.append(told)
    missing = [f"{job.index} ({job.annotation.id})" for job in read if job.index not in found]
    if strange or missing or double:
        raise BadDataError(
            f"The record {record} does not fit its list: {len(missing)} samples have no row ({some(missing)}), "
            f"{len(double)} samples have several ({some(double)}), {len(strange)} rows belong to no sample, or to one "
            f"of another id, label or class count ({some(strange)}). "
            "Run the same command again; if that does not help, delete the record."
        )
    return write_scored(output, scores, labels, names=recipe.labels())
