"""Metrics of the scores of labelled samples: pure functions of arrays.

Throughout, `scores` has shape (samples, classes), any real dtype and finite values; `labels` has shape
(samples,) and holds class indices. Higher scores are better, whether they are probabilities or logits.

Tie rule: of equal scores the lower class index comes first. The prediction is then numpy's `argmax`, so top-1,
the confusion matrix and the mean class accuracy refer to the same prediction. mmaction2's sort is unstable and
leaves ties undefined; without ties the results are equal to its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "ClassAccuracy",
    "Metrics",
    "Proportion",
    "confusion_matrix",
    "decided_by_ties",
    "evaluate",
    "label_ranks",
    "mean_class_accuracy",
    "top_k_accuracy",
    "wilson_interval",
]

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Proportion:
    """`correct` of `n` samples, as a fraction with its 95 % Wilson interval from `low` to `high`."""

    correct: int
    n: int
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, correct: int, n: int) -> Proportion:
        """Return the proportion with its interval."""
        return cls(correct, n, correct / n, *wilson_interval(correct, n))


@dataclass(frozen=True)
class ClassAccuracy:
    """The accuracy of the `n` samples of one class; a class without samples has no top-1 and top-5."""

    index: int
    n: int
    top1: float | None
    top5: float | None


@dataclass(frozen=True)
class Metrics:
    """All metrics of a set of scores.

    `confusion` has shape (classes, classes), rows are labels and columns predictions. `ties` counts, for
    top-1 and top-5, the samples whose outcome the tie rule decided.
    """

    n: int
    classes: int
    top1: Proportion
    top5: Proportion
    mean_class_accuracy: float
    ties: tuple[int, int]
    per_class: tuple[ClassAccuracy, ...]
    confusion: IntArray


def evaluate(scores: Array, labels: IntArray) -> Metrics:
    """Return all metrics of the scores. Raises ValueError as `label_ranks` does."""
    n, classes = scores.shape
    ranks = label_ranks(scores, labels)
    confusion = confusion_matrix(scores.argmax(axis=1), labels, classes)
    return Metrics(
        n=n,
        classes=classes,
        top1=Proportion.of(int((ranks < 1).sum()), n),
        top5=Proportion.of(int((ranks < 5).sum()), n),
        mean_class_accuracy=mean_class_accuracy(confusion),
        ties=(decided_by_ties(scores, labels, 1), decided_by_ties(scores, labels, 5)),
        per_class=_per_class(ranks, labels, classes),
        confusion=confusion,
    )


def label_ranks(scores: Array, labels: IntArray) -> IntArray:
    """Return, for each sample, how many classes come before its label: 0 is a top-1 hit, 4 still a top-5 hit.

    Raises ValueError when there are no samples, the shapes do not match, a score is NaN or infinite, or a
    label is not a class.
    """
    _check(scores, labels)
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    before = np.arange(scores.shape[1]) < labels[:, None]
    ranks: IntArray = ((scores > own) | ((scores == own) & before)).sum(axis=1)
    return ranks


def top_k_accuracy(scores: Array, labels: IntArray, topk: Sequence[int] = (1, 5)) -> tuple[float, ...]:
    """Return, for each k, the fraction of samples whose label is among their k best classes.

    A k above the number of classes means all of them. Definition: mmaction2 `core/evaluation/accuracy.py`,
    except for the tie rule of this module.
    """
    ranks = label_ranks(scores, labels)
    return tuple(float((ranks < k).mean()) for k in topk)


def decided_by_ties(scores: Array, labels: IntArray, k: int) -> int:
    """Return how many samples are a top-k hit or miss only because of the tie rule."""
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    best = (scores > own).sum(axis=1)
    worst = (scores >= own).sum(axis=1) - 1
    return int(((best < k) & (worst >= k)).sum())


def confusion_matrix(predictions: IntArray, labels: IntArray, classes: int) -> IntArray:
    """Return the (classes, classes) counts of label (row) and prediction (column)."""
    counts = np.bincount(labels * classes + predictions, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def mean_class_accuracy(confusion: IntArray) -> float:
    """Return the mean of the classes' recalls over every class that occurs as label or as prediction.

    A class that is only ever predicted counts as 0 and lowers the mean; one that never occurs does not
    count. This is mmaction2's definition (`core/evaluation/accuracy.py`), kept so that the numbers are comparable.
    """
    truths = confusion.sum(axis=1)
    seen = (truths + confusion.sum(axis=0)) > 0
    return float(np.mean(np.diagonal(confusion)[seen] / np.maximum(truths[seen], 1)))


def wilson_interval(correct: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a proportion, which holds for small n and near 0 and 1 too.

    Source: E. B. Wilson, Journal of the American Statistical Association 22 (1927) 209-212.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = correct / n
    scale = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At the ends the bound is exactly 0 or 1; rounding would leave an error of 1e-17.
    return (0.0 if correct == 0 else centre - half, 1.0 if correct == n else centre + half)


def _per_class(ranks: IntArray, labels: IntArray, classes: int) -> tuple[ClassAccuracy, ...]:
    counts, top1, top5 = (
        np.bincount(labels[chosen], minlength=classes).tolist()
        for chosen in (slice(None), ranks < 1, ranks < 5)
    )
    return tuple(
        ClassAccuracy(
            index=index,
            n=counts[index],
            top1=top1[index] / counts[index] if counts[index] else None,
            top5=top5[index] / counts[index] if counts[index] else None,
        )
        for index in range(classes)
    )


def _check(scores: Array, labels: IntArray) -> None:
    if scores.ndim != 2 or not scores.size or labels.shape != scores.shape[:1]:
        raise ValueError(
            f"expected scores (samples, classes) and labels (samples,), not {scores.shape} and {labels.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError("a score is NaN or infinite, so it has no rank")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(f"labels from {labels.min()} to {labels.max()} do not fit {scores.shape[1]} classes")
