"""Label lists that do not match the model give a warning; models that are only bad do not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from engine_runs import WriteInfo, WriteRun, one_a_file

from postprocess.metrics import confusion_matrix
from postprocess.permutation import best_mapping, permutation_remark
from postprocess.score import ScoreOptions, main, score

Answer = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def confusion(answer: Answer, *, classes: int, n: int, seed: int = 0) -> np.ndarray:
    """Return the confusion of a model that answers `answer(generator, labels)`; all classes are equally frequent."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return confusion_matrix(answer(generator, labels), labels, classes)


def good(generator: np.random.Generator, labels: np.ndarray, *, accuracy: float = 0.7) -> np.ndarray:
    """Return predictions of which a share is right and the rest random."""
    guesses = generator.integers(0, labels.max() + 1, labels.size)
    return np.where(generator.random(labels.size) < accuracy, labels, guesses)


@pytest.mark.parametrize(
    ("offset", "words"),
    [(1, "with an offset of +1 (0 as 1, 1 as 2"), (-2, "with an offset of -2 (2 as 0, 3 as 1")],
)
def test_a_shifted_list_is_reported_with_its_offset(offset: int, words: str) -> None:
    def answer(generator: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        # Predictions beyond the ends of the list are random.
        moved = good(generator, labels) + offset
        inside = (moved >= 0) & (moved < 30)
        return np.where(inside, moved, generator.integers(0, 30, labels.size))

    remark = permutation_remark(confusion(answer, classes=30, n=600))
    assert remark is not None
    assert "is the label list shifted?" in remark
    assert words in remark


def test_a_list_that_lacks_a_line_is_detected() -> None:
    def answer(generator: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        right = good(generator, labels, accuracy=0.9)
        return np.where(right >= 20, (right + 1) % 30, right)

    names = [f"name {index}" for index in range(30)]
    remark = permutation_remark(confusion(answer, classes=30, n=600), names)
    assert remark is not None
    assert "9 of 30 classes are predicted with an offset of +1 (20 (name 20) as 21 (name 21)" in remark


def test_a_reordered_list_is_reported_with_examples() -> None:
    order = np.random.default_rng(3).permutation(40)
    matrix = confusion(lambda generator, labels: order[good(generator, labels)], classes=40, n=800)
    remark = permutation_remark(matrix)
    moved = [index for index in range(40) if order[index] != index]
    assert remark is not None
    assert f"{len(moved)} of 40 classes are predicted as a different class" in remark
    assert f"{moved[0]} as {order[moved[0]]}, {moved[1]} as {order[moved[1]]}" in remark
    assert best_mapping(matrix, np.arange(40)) == dict(enumerate(order.tolist()))


@pytest.mark.parametrize(
    "answer",
    [
        good,
        lambda generator, labels: good(generator, labels, accuracy=0.2),
        lambda generator, labels: generator.integers(0, labels.max() + 1, labels.size),
        lambda generator, labels: np.zeros_like(labels),
        lambda generator, labels: generator.integers(0, 2, labels.size),
        # Right in two of five, else the next class: a bad model with matching numbers.
        lambda generator, labels: np.where(
            generator.random(labels.size) < 0.4, labels, (labels + 1) % (labels.max() + 1)
        ),
        # Left and right swapped in a few pairs is an error of the model, not of the list.
        lambda generator, labels: np.where(labels < 4, labels ^ 1, labels),
    ],
    ids=["good", "weak", "guesses", "one answer", "two answers", "neighbours", "two pairs"],
)
@pytest.mark.parametrize("classes", [24, 174])
def test_models_that_are_only_bad_give_no_warning(answer: Answer, classes: int) -> None:
    for seed in range(10):
        assert permutation_remark(confusion(answer, classes=classes, n=6 * classes, seed=seed)) is None


def test_unequal_classes_and_a_constant_prediction_give_no_warning() -> None:
    # Class 0 is rare and always predicted: as shares of all samples that looks like 0 and 1 swapped.
    assert permutation_remark(np.array([[10, 0], [190, 0]])) is None
    assert permutation_remark(np.array([[0, 10], [190, 0]])) is not None


def test_the_limits_of_the_warning() -> None:
    """20 samples of each of 5 classes (the least that counts), each predicted as the next class."""
    shifted = np.roll(np.eye(5, dtype=np.int64), 1, axis=1)
    assert permutation_remark(20 * shifted) is not None
    few = 20 * shifted
    few[0] = 19 * shifted[0]
    assert permutation_remark(few) is None
    # Classes of 5 samples count: without them, these would be fewer than 100 samples.
    small = np.roll(np.eye(20, dtype=np.int64), 1, axis=1) * 5
    assert permutation_remark(small) is not None
    # Half of the samples as the mapped class is enough, a little less is not.
    halves = (
        np.roll(np.eye(6, dtype=np.int64), 1, axis=1) * 10 + np.roll(np.eye(6, dtype=np.int64), 2, axis=1) * 7
    )
    spread = np.roll(np.eye(6, dtype=np.int64), 3, axis=1) * 3
    assert permutation_remark(halves + spread) is not None
    assert permutation_remark(halves + 2 * spread) is None


def test_mappings_are_of_shares_of_the_true_class() -> None:
    # Frequent class 1 is predicted as 0 more often in number, but rare class 0 in all of its samples.
    assert best_mapping(np.array([[10, 0, 0], [40, 0, 60], [0, 100, 0]]), np.arange(3)) == {0: 0, 2: 1, 1: 2}
    assert best_mapping(np.array([[0, 5, 5], [0, 60, 0], [0, 40, 20]]), np.arange(3)) == {1: 1, 0: 2}
    # Of equal shares the class itself is taken.
    assert best_mapping(np.array([[5, 5], [5, 5]]), np.arange(2)) == {0: 0, 1: 1}


def test_shares_in_the_warning_are_of_the_true_class() -> None:
    # Class 1 has nine times as many samples as class 0; a mean of both shares is (0.9 + 0.6) / 2.
    remark = permutation_remark(np.array([[1, 9, 0], [54, 9, 27], [0, 0, 50]]))
    assert (
        remark is not None
        and "On average 75 % of the samples" in remark
        and "10 % as the class itself" in remark
    )


def test_few_samples_give_no_warning() -> None:
    def shifted(generator: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        return (labels + 1) % 8

    assert permutation_remark(confusion(shifted, classes=8, n=96)) is None
    assert permutation_remark(confusion(shifted, classes=8, n=104)) is not None
    # Many samples, but few of each class: every prediction is frequent for some class.
    scattered = confusion(lambda generator, labels: generator.permutation(labels), classes=200, n=800)
    assert permutation_remark(scattered) is None


def test_the_scorer_logs_the_warning(
    write_run: WriteRun, write_info: WriteInfo, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.arange(120) % 6
    scores = np.eye(6, dtype=np.float32)[(labels + 1) % 6]
    summary = write_run(one_a_file(scores))
    shifted = write_info(dict(enumerate(labels.tolist())))
    assert any(
        "with an offset of +1" in remark
        for remark in score(ScoreOptions(result_path=summary, info_path=shifted)).remarks
    )
    main(["--result_path", str(summary), "--info_path", str(shifted)])
    assert "is the label list shifted?" in capsys.readouterr().err
    main(["-q", "--result_path", str(summary), "--info_path", str(shifted)])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: is the label list shifted?")
    right = write_info(dict(enumerate(((labels + 1) % 6).tolist())))
    assert not any(
        "Warning" in remark for remark in score(ScoreOptions(result_path=summary, info_path=right)).remarks
    )
