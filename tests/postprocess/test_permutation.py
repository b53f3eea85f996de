"""Label lists that are not the model's: what is told of them, and of models that are only bad."""

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
    """The confusion of a model that gives `answer(generator, labels)`; every class is as frequent."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return confusion_matrix(answer(generator, labels), labels, classes)


def good(generator: np.random.Generator, labels: np.ndarray, *, accuracy: float = 0.7) -> np.ndarray:
    """Answers of which a share is right and the rest is anything."""
    guesses = generator.integers(0, labels.max() + 1, labels.size)
    return np.where(generator.random(labels.size) < accuracy, labels, guesses)


@pytest.mark.parametrize(
    ("offset", "words"), [(1, "class 1 further on (0 as 1, 1 as 2"), (-2, "class 2 before (2 as 0, 3 as 1")]
)
def test_a_shifted_list_is_named_with_its_offset(offset: int, words: str) -> None:
    def answer(generator: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        # What would fall off the list's ends is answered at random.
        moved = good(generator, labels) + offset
        inside = (moved >= 0) & (moved < 30)
        return np.where(inside, moved, generator.integers(0, 30, labels.size))

    remark = permutation_remark(confusion(answer, classes=30, n=600))
    assert remark is not None
    assert "is the label list shifted?" in remark
    assert words in remark


def test_a_list_that_lacks_a_line_is_seen_from_there_on() -> None:
    def answer(generator: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        right = good(generator, labels, accuracy=0.9)
        return np.where(right >= 20, (right + 1) % 30, right)

    names = [f"name {index}" for index in range(30)]
    remark = permutation_remark(confusion(answer, classes=30, n=600), names)
    assert remark is not None
    assert "9 of 30 classes are predicted as the class 1 further on (20 (name 20) as 21 (name 21)" in remark


def test_a_list_in_another_order_is_named_by_examples() -> None:
    order = np.random.default_rng(3).permutation(40)
    matrix = confusion(lambda generator, labels: order[good(generator, labels)], classes=40, n=800)
    remark = permutation_remark(matrix)
    moved = [index for index in range(40) if order[index] != index]
    assert remark is not None
    assert f"{len(moved)} of 40 classes are predicted as another one" in remark
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
        # Right in two of five, else the neighbour: bad, but numbered alike.
        lambda generator, labels: np.where(
            generator.random(labels.size) < 0.4, labels, (labels + 1) % (labels.max() + 1)
        ),
        # Left and right exchanged in a few pairs is a model's mistake, not a list's.
        lambda generator, labels: np.where(labels < 4, labels ^ 1, labels),
    ],
    ids=["good", "weak", "guesses", "one answer", "two answers", "neighbours", "two pairs"],
)
@pytest.mark.parametrize("classes", [24, 174])
def test_models_that_are_only_bad_are_left_alone(answer: Answer, classes: int) -> None:
    for seed in range(10):
        assert permutation_remark(confusion(answer, classes=classes, n=6 * classes, seed=seed)) is None


def test_unequal_classes_and_one_answer_are_no_exchange() -> None:
    # Class 0 is rare and everything is answered with it: as shares of all samples that looks like 0 and 1 exchanged.
    assert permutation_remark(np.array([[10, 0], [190, 0]])) is None
    assert permutation_remark(np.array([[0, 10], [190, 0]])) is not None


def test_few_samples_say_nothing() -> None:
    def shifted(generator: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        return (labels + 1) % 8

    assert permutation_remark(confusion(shifted, classes=8, n=96)) is None
    assert permutation_remark(confusion(shifted, classes=8, n=104)) is not None
    # Many samples of few each: any answer is somebody's favourite.
    scattered = confusion(lambda generator, labels: generator.permutation(labels), classes=200, n=800)
    assert permutation_remark(scattered) is None


def test_the_scorer_says_it(
    write_run: WriteRun, write_info: WriteInfo, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.arange(120) % 6
    scores = np.eye(6, dtype=np.float32)[(labels + 1) % 6]
    summary = write_run(one_a_file(scores))
    shifted = write_info(dict(enumerate(labels.tolist())))
    assert any(
        "class 1 further on" in remark
        for remark in score(ScoreOptions(result_path=summary, info_path=shifted)).remarks
    )
    main(["--result_path", str(summary), "--info_path", str(shifted)])
    assert "is the label list shifted?" in capsys.readouterr().err
    right = write_info(dict(enumerate(((labels + 1) % 6).tolist())))
    assert not any(
        "Warning" in remark for remark in score(ScoreOptions(result_path=summary, info_path=right)).remarks
    )
