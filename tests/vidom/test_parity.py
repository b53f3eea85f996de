from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from vidom.errors import UsageError
from vidom.parity import NUMBER_FORMATS, Flip, Tolerance, compare, render


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_a_flip_is_reported_with_its_margin_and_judged_by_it():
    truth = np.array([[0.40, 0.41, 0.19], [0.5, 0.3, 0.2]])
    near = np.array([[0.410004, 0.409996, 0.18], [0.5, 0.3, 0.2]])
    parity = compare("x", batch_size=1, rows=(truth, near))
    assert not parity.passed
    (flip,) = parity.flips
    assert (flip.row, flip.reference) == (0, 1)
    assert flip.margin == pytest.approx(0.01)
    assert "row 0: top-1 was 1" in render([parity])
    assert parity.tolerance_used > 100

    close = np.array([[0.40999, 0.41001, 0.18]])
    swapped = close[:, [1, 0, 2]]
    assert compare("x", batch_size=1, rows=(close, swapped)).passed


@pytest.mark.parametrize("candidate", [np.array([[np.nan, 0.5, 0.5]]), np.full((1, 4), 0.25)])
def test_nan_and_a_different_shape_never_pass(candidate: np.ndarray):
    rows = np.full((1, 3), 1 / 3)
    parity = compare("x", batch_size=1, logits=(rows, rows), rows=(rows, candidate))
    assert not parity.passed
    assert json.loads(json.dumps(parity.facts, allow_nan=False))["max_rows"] is None
    assert not compare("x", batch_size=1, logits=(rows, candidate), rows=(rows, rows)).passed
    assert not compare("x", batch_size=1, rows=(candidate, candidate.copy() * np.nan)).passed


def test_logits_fail_where_rows_near_one_over_classes_agree():
    logits = np.random.default_rng(0).normal(scale=1e-3, size=(4, 174))
    wrong = logits[:, ::-1]
    rows = softmax(logits), softmax(wrong)
    assert np.abs(rows[0] - rows[1]).max() < 5e-5
    assert compare("x", batch_size=1, rows=rows).passed
    parity = compare("x", batch_size=1, logits=(logits, wrong), rows=rows)
    assert not parity.passed and parity.relative_logits == pytest.approx(
        np.abs(logits - wrong).max() / np.abs(logits).max()
    )
    # Nor do rows pass that equal logits do not explain, such as those of a wrong average.
    assert not compare("x", batch_size=1, logits=(logits, logits), rows=rows).passed


def test_swapped_rows_fail_unless_all_inputs_were_one():
    rows = softmax(np.random.default_rng(1).normal(size=(2, 10)))
    assert not compare("x", batch_size=2, rows=(rows, rows[::-1])).passed


def test_each_format_allows_its_rounding_and_no_more():
    generator = np.random.default_rng(2)
    logits = generator.normal(scale=5, size=(8, 174))
    # Relative errors as of one rounding to float16, well above float32's and well below bfloat16's.
    rounded = logits.astype(np.float16).astype(np.float64)
    pairs = {"logits": (logits, rounded), "rows": (softmax(logits), softmax(rounded))}
    passed = {
        name: compare("x", batch_size=1, tolerance=Tolerance.of(name), **pairs).passed
        for name in NUMBER_FORMATS
    }
    assert passed == {"float32": False, "float16": True, "bfloat16": True, "int8": True}
    broken = logits + generator.normal(scale=4, size=logits.shape)
    pairs = {"logits": (logits, broken), "rows": (softmax(logits), softmax(broken))}
    assert not any(
        compare("x", batch_size=1, tolerance=Tolerance.of(name), **pairs).passed for name in NUMBER_FORMATS
    )
    assert Tolerance.of("float32") == Tolerance() and (Tolerance().logits, Tolerance().rows) == (1e-4, 5e-5)
    with pytest.raises(UsageError, match="'float8'.*float32, float16"):
        Tolerance.of("float8")  # type: ignore[arg-type]


def test_top5_changes_count_sets_and_equal_scores_keep_the_lower_class_first():
    reference = np.array(
        [[6, 5, 4, 3, 2, 1, 0], [6, 5, 4, 3, 2, 1, 0], [1, 1, 0, 0, 0, 0, 0]], dtype=np.float32
    )
    candidate = np.array(
        [[5, 6, 4, 3, 2, 1, 0], [6, 5, 4, 3, 1, 2, 0], [1, 1, 0, 0, 0, 0, 0]], dtype=np.float32
    )
    parity = compare("x", batch_size=3, rows=(reference, candidate), tolerance=Tolerance.of("bfloat16"))
    assert parity.flips == (Flip(0, 0, 1.0),)
    assert parity.top5_changes == 1
    assert (parity.max_rows, parity.rows) == (1.0, 3)


def test_the_report_states_how_many_samples_were_used_and_the_format():
    rows = np.full((6, 3), 1 / 3)
    parity = compare("x", batch_size=2, rows=(rows, rows), tolerance=Tolerance.of("int8"), samples=2, of=100)
    assert (parity.samples, parity.of, parity.rows) == (2, 100, 6)
    line = render([parity]).splitlines()[1]
    assert line.split() == ["x", "2", "2/100", "int8", "-", "-", "0.00e+00", "0", "0"]
    assert asdict(parity)["flips"] == ()
