"""A sample's scores from those of its views, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from engine_runs import CLASSES, WriteRun
from scored_stores import pack_views

from postprocess.gather import gather
from postprocess.matching import match_by_store
from postprocess.outputs import find_outputs
from postprocess.score import ScoreOptions, score
from postprocess.view_scores import sample_scores
from vidom.errors import BadDataError
from vidom.formats.clip_store import ClipStore

VIEWS = 3
LABELS = {0: 2, 1: 0, 4: 6, 5: 1}


def view_rows(kind: str) -> dict[int, np.ndarray]:
    """Random rows of each sample, [VIEWS, CLASSES] float32, of logits or probabilities."""
    generator = np.random.default_rng(5)
    # Samples of very different magnitude: a softmax over the samples would not rank them as one over the classes.
    logits = {index: generator.normal(scale=1 + index, size=(VIEWS, CLASSES)) + index for index in LABELS}
    if kind == "logits":
        return {index: rows.astype(np.float32) for index, rows in logits.items()}
    exponentials = {index: np.exp(rows) for index, rows in logits.items()}
    return {
        index: (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)
        for index, rows in exponentials.items()
    }


def run_views(rows: dict[int, np.ndarray], store: Path, write_run: WriteRun, name: str) -> Path:
    """Write a run whose files are in another order than the samples and views."""
    files = {
        f"{index:06d}v{view:02d}": rows[index][view : view + 1] for index in rows for view in range(VIEWS)
    }
    stems = np.random.default_rng(1).permutation(list(files))
    return write_run({stem: files[stem] for stem in stems}, name=name, inputs=str(store / "clips"))


@pytest.mark.parametrize(("kind", "average_clips"), [("probabilities", "prob"), ("logits", "score")])
def test_rows_of_views_are_averaged(kind: str, average_clips: str, write_run: WriteRun, tmp_path: Path):
    store = pack_views(tmp_path / "store", LABELS, views=VIEWS, average_clips=average_clips)
    rows = view_rows(kind)
    summary = run_views(rows, store, write_run, "out")
    matches = match_by_store(find_outputs(summary), ClipStore.open(store))
    means = gather(matches, LABELS, classes=CLASSES)
    assert means.dtype == np.float32
    for position, index in enumerate(sorted(LABELS)):
        by_hand = [sum(float(row[column]) for row in rows[index]) / VIEWS for column in range(CLASSES)]
        np.testing.assert_allclose(means[position], by_hand, rtol=1e-6)


def test_views_are_averaged_in_float64(write_run: WriteRun, tmp_path: Path):
    """In float32 1e8 + 1 - 1e8 would be 0."""
    store = pack_views(tmp_path / "store", {0: 0}, views=VIEWS, average_clips="score")
    rows = {0: np.array([[1e8] * CLASSES, [1.0] * CLASSES, [-1e8] * CLASSES], np.float32)}
    summary = run_views(rows, store, write_run, "out")
    matches = match_by_store(find_outputs(summary), ClipStore.open(store))
    np.testing.assert_allclose(gather(matches, {0: 0}, classes=CLASSES), 1 / 3, rtol=1e-6)


def test_mean_logits_become_probabilities_over_the_classes():
    logits = np.array([[0, 0, 0], [1, 2, 3], [1000, 999, 0], [-7, -7, -1000]], np.float32)
    e = np.e
    total = 1 + e + e**2
    by_hand = [
        [1 / 3, 1 / 3, 1 / 3],
        [1 / total, e / total, e**2 / total],
        [e / (1 + e), 1 / (1 + e), 0],
        [1 / 2, 1 / 2, 0],
    ]
    scores = sample_scores(logits, "score")
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, by_hand, rtol=1e-6, atol=1e-30)


def test_mean_probabilities_stay_as_they_are():
    means = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    assert sample_scores(means, "prob").tolist() == means.tolist()


@pytest.mark.parametrize("sums", [(1.0, 1.009), (0.991, 1.0)])
def test_sums_within_half_precision_are_probabilities(sums: tuple[float, float]):
    means = np.array([[total - 0.25, 0.25] for total in sums], np.float32)
    assert sample_scores(means, "prob") is means
    with pytest.raises(BadDataError, match="averages its views as logits .* gave probabilities"):
        sample_scores(means, "score")


@pytest.mark.parametrize("row", [(0.25, 0.735), (0.4, 0.615), (1.25, -0.25)])
def test_rows_that_are_not_probabilities_are_logits(row: tuple[float, float]):
    means = np.array([[0.5, 0.5], row], np.float32)
    with pytest.raises(BadDataError, match="averages its views as probabilities .* gave logits"):
        sample_scores(means, "prob")


def test_the_metrics_are_those_of_the_averaged_views(write_run: WriteRun, tmp_path: Path):
    """The class that wins most views, or that wins after a softmax per view, is not the one with the best mean."""
    store = pack_views(tmp_path / "store", {0: 1, 1: 1}, views=VIEWS, average_clips="score")
    rows = np.zeros((2, VIEWS, CLASSES), np.float32)
    rows[0, :, 0], rows[0, :, 1] = (3, 3, 0), (0, 0, 9)
    rows[1, :, 1], rows[1, :, 2] = (5, 5, 5), (0, 0, 14)
    summary = run_views(dict(enumerate(rows)), store, write_run, "out")
    scores = score(ScoreOptions(result_path=summary))
    assert (scores.metrics.top1.correct, scores.metrics.n) == (2, 2)
    assert f"The logits of each sample's {VIEWS} views were averaged." in scores.remarks
