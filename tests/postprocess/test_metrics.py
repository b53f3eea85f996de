from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postprocess.metrics import (
    Proportion,
    confusion_matrix,
    decided_by_ties,
    evaluate,
    label_ranks,
    mean_class_accuracy,
    top_k_accuracy,
    wilson_interval,
)

Case = tuple[dict[str, Any], np.ndarray, np.ndarray]


def load(fixtures: Path, name: str) -> Case:
    folder = fixtures / "mmaction2"
    truth = json.loads((folder / "metrics.json").read_text())[name]
    with np.load(folder / "metrics.npz") as arrays:
        scores = np.array(truth["scores"]) if "scores" in truth else arrays[f"{name}/scores"]
        labels = np.array(truth["labels"]) if "labels" in truth else arrays[f"{name}/labels"]
    return truth, scores.astype(np.float64), labels


ALL = [
    "random_174",
    "ucf_10_labels_only",
    "small",
    "pred_only_class_counts_as_zero",
    "tie_all_equal_4",
    "tie_two_way",
    "k_over_classes",
]


@pytest.mark.parametrize("name", ALL)
def test_top_k_equals_the_original_where_no_tie_decides(fixtures: Path, name: str) -> None:
    truth, scores, labels = load(fixtures, name)
    for k, value in truth["topk"].items():
        if not decided_by_ties(scores, labels, int(k)):
            assert top_k_accuracy(scores, labels, [int(k)]) == (value,)


@pytest.mark.parametrize("name", ALL[2:])
def test_ties_are_the_only_difference_to_the_original(fixtures: Path, name: str) -> None:
    truth, scores, labels = load(fixtures, name)
    # Up to 16 classes the original's sort is stable and the higher class wins; with mirrored classes, ours does too.
    mirrored = top_k_accuracy(scores[:, ::-1], scores.shape[1] - 1 - labels, [int(k) for k in truth["topk"]])
    assert mirrored == tuple(truth["topk"].values())


@pytest.mark.parametrize("name", ALL)
def test_mean_class_accuracy_and_confusion_equal_the_original(fixtures: Path, name: str) -> None:
    truth, scores, labels = load(fixtures, name)
    metrics = evaluate(scores, labels)
    assert metrics.mean_class_accuracy == pytest.approx(truth["mean_class"], abs=1e-15)
    seen = np.flatnonzero(metrics.confusion.sum(axis=0) + metrics.confusion.sum(axis=1))
    assert seen.tolist() == truth["label_set"]
    if truth["confusion"] is not None:
        assert metrics.confusion[np.ix_(seen, seen)].tolist() == truth["confusion"]


def test_where_scores_tie_the_lower_class_wins_and_the_ties_are_counted(fixtures: Path) -> None:
    _, scores, labels = load(fixtures, "tie_two_way")
    # Two of the three labels are the lower of two equal best classes. The original counts the third.
    assert top_k_accuracy(scores, labels, (1, 2)) == (2 / 3, 1.0)
    assert decided_by_ties(scores, labels, 1) == 3
    assert decided_by_ties(scores, labels, 2) == 0


def test_nan_has_no_rank(fixtures: Path) -> None:
    _, scores, labels = load(fixtures, "nan_sorts_last")
    with pytest.raises(ValueError, match="NaN"):
        top_k_accuracy(scores, labels)


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        (np.zeros((0, 3)), np.zeros(0, np.int64)),
        (np.zeros((2, 3)), np.zeros(3, np.int64)),
        (np.zeros(3), np.zeros(3, np.int64)),
        (np.zeros((2, 3)), np.array([0, 3])),
        (np.zeros((2, 3)), np.array([-1, 0])),
        (np.array([[math.inf, 0.0]]), np.array([0])),
    ],
)
def test_arrays_that_do_not_fit_are_rejected(scores: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected|do not fit|infinite"):
        label_ranks(scores, labels)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_ranks_equal_a_stable_sort(samples: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (samples, classes)).astype(np.float32)
    labels = rng.integers(0, classes, samples)
    order = np.argsort(-scores, axis=1, kind="stable")
    expected = (order == labels[:, None]).argmax(axis=1)
    assert label_ranks(scores, labels).tolist() == expected.tolist()


def test_confusion_counts_each_sample_once() -> None:
    labels, predictions = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 2, 2])
    expected = np.zeros((4, 4), int)
    for row, column in zip(labels, predictions, strict=True):
        expected[row, column] += 1
    assert confusion_matrix(predictions, labels, 4).tolist() == expected.tolist()
    # Recalls 1/2, 1 and 2/3; class 3 never occurs.
    assert mean_class_accuracy(expected) == pytest.approx((1 / 2 + 1 + 2 / 3) / 3)


def test_per_class_table() -> None:
    scores = np.eye(7)[[0, 1, 1, 6]] - np.arange(7) / 100
    metrics = evaluate(scores, np.array([0, 0, 1, 5]))
    assert [(row.n, row.top1, row.top5) for row in metrics.per_class] == [
        (2, 0.5, 1.0),
        (1, 1.0, 1.0),
        (0, None, None),
        (0, None, None),
        (0, None, None),
        (1, 0.0, 0.0),
        (0, None, None),
    ]


def test_top_5_ends_at_the_fifth_class() -> None:
    # Descending scores: the label is the class of that rank.
    scores = np.tile(np.arange(8, 0, -1), (8, 1))
    metrics = evaluate(scores, np.arange(8))
    assert (metrics.top1.correct, metrics.top5.correct) == (1, 5)
    assert [row.top1 for row in metrics.per_class] == [1.0, 0, 0, 0, 0, 0, 0, 0]
    assert [row.top5 for row in metrics.per_class] == [1.0, 1, 1, 1, 1, 0, 0, 0]


def test_ties_are_counted_for_top_1_and_top_5_separately() -> None:
    tie_for_top_1 = [9, 9, 7, 6, 5, 4, 3]
    tie_for_top_5 = [9, 8, 7, 6, 5, 5, 3]
    metrics = evaluate(np.array([tie_for_top_1, tie_for_top_5, tie_for_top_5]), np.array([1, 5, 4]))
    assert metrics.ties == (1, 2)


def test_wilson_interval_by_hand() -> None:
    # n = 10, 8 correct, z = 1.959964: centre (0.8 + 0.192073)/1.384146, half width
    # 1.959964/1.384146 * sqrt(0.016 + 0.0096036).
    assert wilson_interval(8, 10) == pytest.approx((0.490162, 0.943318), abs=1e-6)
    # With none correct the upper bound is z²/(n + z²).
    z2 = 1.959963984540054**2
    assert wilson_interval(0, 20) == (0.0, pytest.approx(z2 / (20 + z2)))
    assert wilson_interval(20, 20) == (pytest.approx(20 / (20 + z2)), 1.0)


def test_the_interval_of_the_published_accuracy() -> None:
    top1 = Proportion.of(round(0.6187 * 24777), 24777)
    # At this n Wilson's interval is the normal one to four digits.
    half = 1.959964 * math.sqrt(0.6187 * 0.3813 / 24777)
    assert (top1.low, top1.high) == pytest.approx((0.6187 - half, 0.6187 + half), abs=3e-5)
