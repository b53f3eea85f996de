"""Writer of `metrics.json`; equal metrics give equal bytes.

    {"n", "classes": counts of samples and classes,
     "top1", "top5": {"accuracy", "correct", "wilson_95": [low, high]},
     "mean_class_accuracy",
     "decided_by_ties": {"top1", "top5"}: samples whose outcome the tie rule decided,
     "per_class": [{"class", "name" where known, "n", "top1", "top5" or null without samples}],
     "confusion": rows are labels, columns predictions,
     "provenance": digests of the inputs}

It contains no time, path or version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from postprocess.metrics import ClassAccuracy, Metrics, Proportion
from vidom.files import write_text

__all__ = ["write_metrics"]


def write_metrics(
    path: Path, metrics: Metrics, *, names: Sequence[str], provenance: Mapping[str, str]
) -> None:
    """Write the metrics to `path`, one line a class; `names` is empty or has one name for each class."""
    document = {
        "n": metrics.n,
        "classes": metrics.classes,
        "top1": _proportion(metrics.top1),
        "top5": _proportion(metrics.top5),
        "mean_class_accuracy": metrics.mean_class_accuracy,
        "decided_by_ties": {"top1": metrics.ties[0], "top5": metrics.ties[1]},
        "per_class": [_class(row, names) for row in metrics.per_class],
        "confusion": metrics.confusion.tolist(),
        "provenance": dict(provenance),
    }
    write_text(
        path, "{\n" + ",\n".join(f'"{key}": {_lines(value)}' for key, value in document.items()) + "\n}\n"
    )


def _lines(value: Any) -> str:
    # A line for each class keeps a confusion matrix of 174 classes readable and its diffs small.
    if isinstance(value, list):
        return "[\n  " + ",\n  ".join(map(_flat, value)) + "\n]"
    return _flat(value)


def _flat(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _class(row: ClassAccuracy, names: Sequence[str]) -> dict[str, Any]:
    name = {"name": names[row.index]} if names else {}
    return {"class": row.index, **name, "n": row.n, "top1": row.top1, "top5": row.top5}


def _proportion(proportion: Proportion) -> dict[str, Any]:
    return {
        "accuracy": proportion.value,
        "correct": proportion.correct,
        "wilson_95": [proportion.low, proportion.high],
    }
