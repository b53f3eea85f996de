"""From scores in memory to `metrics.json`; all commands that report an accuracy use it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from postprocess.metrics import Metrics, evaluate
from postprocess.metrics_file import write_metrics
from postprocess.permutation import permutation_remark
from vidom.errors import BadDataError
from vidom.wording import some

__all__ = [
    "Scored",
    "accuracy_remarks",
    "accuracy_text",
    "check_finite",
    "check_labels",
    "log_remarks",
    "write_scored",
]

FloatArray = npt.NDArray[np.float32]
_WARNING = "Warning: "


@dataclass(frozen=True)
class Scored:
    """The metrics of a set of samples, and what a reader should know besides the numbers."""

    metrics: Metrics
    remarks: tuple[str, ...]


def write_scored(
    path: Path, scores: FloatArray, labels: Mapping[int, int], *, names: Sequence[str]
) -> Scored:
    """Write the metrics of the scores [samples, classes] to `path`; the rows are the labelled samples by index.

    `names` may be empty. The bytes depend on scores, labels and class names only. The provenance is the SHA-256 of
    the `index label` lines by ascending index (the bytes of a clip store's `.info` list) and that of the scores as
    little-endian float32. Raises BadDataError as `check_finite` does.
    """
    indices = sorted(labels)
    check_finite(scores, indices)
    metrics = evaluate(scores, np.array([labels[index] for index in indices], dtype=np.int64))
    lines = "".join(f"{index} {labels[index]}\n" for index in indices)
    provenance = {
        "labels_sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "outputs_sha256": hashlib.sha256(np.ascontiguousarray(scores, "<f4").data).hexdigest(),
    }
    write_metrics(path, metrics, names=names, provenance=provenance)
    return Scored(metrics, (*_remarks_on_metrics(metrics, names), *_remarks_on_scores(scores)))


def accuracy_text(metrics: Metrics) -> str:
    """Return top-1 and top-5 as ModelZoo's TSM_postprocess.py prints them."""
    return f"\ntop1_acc\t{metrics.top1.value:.4f}\n\ntop5_acc\t{metrics.top5.value:.4f}"


def accuracy_remarks(metrics: Metrics) -> tuple[str, ...]:
    """Return the accuracies with their counts and intervals, a line each."""
    shares = (("top-1", metrics.top1), ("top-5", metrics.top5))
    return (
        *(
            f"{name} {share.correct}/{share.n} = {share.value:.4f}, 95 % interval {share.low:.4f} .. {share.high:.4f}"
            for name, share in shares
        ),
        f"mean class accuracy {metrics.mean_class_accuracy:.4f}",
    )


def log_remarks(log: logging.Logger, remarks: Iterable[str]) -> None:
    """Log the remarks, those that begin with "Warning: " as warnings."""
    for remark in remarks:
        text = remark.removeprefix(_WARNING)
        log.log(logging.INFO if text == remark else logging.WARNING, text)


def check_finite(scores: FloatArray, indices: Sequence[int]) -> None:
    """Raise BadDataError that names the samples with a NaN or infinite score; `indices` are those of the rows."""
    invalid = [indices[row] for row in np.unique(np.nonzero(~np.isfinite(scores))[0])]
    if invalid:
        raise BadDataError(
            f"{len(invalid)} samples have a score that is NaN or infinite: {some(invalid)}. The model overflowed "
            "or its input was damaged; no accuracy is computed, because such a sample is neither right nor wrong."
        )


def check_labels(labels: Mapping[int, int], classes: int, source: Path | str) -> None:
    """Raise BadDataError that names the samples of the list `source` whose label is not a class."""
    invalid = [index for index in sorted(labels) if labels[index] >= classes]
    if invalid:
        raise BadDataError(
            f"{len(invalid)} samples of {source} have a label that is not one of the model's {classes} classes "
            f"(0 .. {classes - 1}; the largest label is {max(labels.values())}): {some(invalid)}. Model and list "
            "belong to different data sets, or the labels start at 1."
        )


def _remarks_on_metrics(metrics: Metrics, names: Sequence[str]) -> list[str]:
    remarks = []
    if any(metrics.ties):
        remarks.append(
            f"Equal scores decided top-1 of {metrics.ties[0]} and top-5 of {metrics.ties[1]} samples; the lower "
            "class came first. NPY and BIN keep the digits that TXT drops."
        )
    if moved := permutation_remark(metrics.confusion, names):
        remarks.append(moved)
    return remarks


def _remarks_on_scores(scores: FloatArray) -> list[str]:
    remarks = []
    if len(scores) > 1 and (scores == scores[0]).all():
        remarks.append(
            "Warning: all samples have exactly the same scores. The output does not depend on the input; the "
            "accuracy is meaningless."
        )
    sums = scores.sum(axis=1, dtype=np.float64)
    if scores.min() < 0 or abs(sums - 1).max() > 0.01:
        remarks.append(
            f"The scores are not probabilities (rows sum to {sums.min():.4g} .. {sums.max():.4g}); top-1 "
            "and top-5 depend only on their order."
        )
    return remarks
