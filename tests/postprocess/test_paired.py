from __future__ import annotations

import math

import numpy as np
import pytest

from postprocess.paired import compare_predictions, mcnemar_exact, tango_interval

Z = 1.959963984540054


@pytest.mark.parametrize(
    ("regressions", "fixes", "p"),
    [
        (0, 0, 1.0),
        (0, 1, 1.0),
        (0, 5, 2 / 32),
        (5, 0, 2 / 32),
        (1, 7, 2 * (1 + 8) / 256),
        (3, 6, 2 * (1 + 9 + 36 + 84) / 512),
        (4, 4, 1.0),
    ],
)
def test_mcnemar_by_hand(regressions: int, fixes: int, p: float):
    assert mcnemar_exact(regressions, fixes) == p


def test_mcnemar_of_many_flips():
    # The normal approximation with continuity correction is good to three digits here.
    statistic = (abs(5050 - 4950) - 1) / math.sqrt(10_000)
    assert mcnemar_exact(5050, 4950) == pytest.approx(math.erfc(statistic / math.sqrt(2)), rel=1e-3)


def test_predictions_are_counted():
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    there = np.array([0, 0, 1, 1, 1, 2, 2, 2, 0, 1])
    here = np.array([0, 1, 0, 1, 1, 0, 2, 1, 2, 1])
    result = compare_predictions(here, there, labels)
    assert (result.n, result.correct, result.reference_correct) == (10, 6, 6)
    assert (result.regressions, result.fixes, result.disagreements) == (2, 2, 5)
    assert (result.difference, result.p) == (0.0, 1.0)
    assert result.low == pytest.approx(-result.high)
    worse = compare_predictions(np.zeros(10, int), there, labels)
    assert (worse.regressions, worse.fixes, worse.difference) == (4, 1, -0.3)
    assert (worse.low, worse.high) == tango_interval(1, 4, 10) and worse.low < -0.3 < worse.high


def test_published_interval():
    """Airway hyper-responsiveness before and after transplantation, 21 children, one and seven discordant pairs.

    Fagerland, Lydersen and Laake (2014), Table IV.
    """
    assert tango_interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


def likeliest_probability(up: int, down: int, n: int, delta: float) -> float:
    """Return the maximum-likelihood probability of a `down` pair if that of an `up` pair is `delta` higher."""
    low, high = max(0.0, -delta), (1 - delta) / 2
    grid = np.linspace(low, high, 2001)[1:-1]
    for _ in range(8):
        likelihood = (
            up * np.log(grid + delta) + down * np.log(grid) + (n - up - down) * np.log(1 - 2 * grid - delta)
        )
        best = int(np.clip(likelihood.argmax(), 1, len(grid) - 2))
        grid = np.linspace(grid[best - 1], grid[best + 1], 2001)
    return float(grid[1000])


@pytest.mark.parametrize(("up", "down", "n"), [(2, 3, 1000), (1, 7, 21), (40, 20, 160), (12, 30, 24_777)])
def test_the_score_at_the_bounds_is_z(up: int, down: int, n: int):
    for bound, sign in zip(tango_interval(up, down, n), (1, -1), strict=True):
        probability = likeliest_probability(up, down, n, bound)
        variance = n * (2 * probability + bound - bound**2)
        assert (up - down - n * bound) / math.sqrt(variance) == pytest.approx(sign * Z, rel=1e-4)


def test_the_interval_without_flips():
    # With no discordant pair the score equation is (n δ)² = z² n (δ - δ²), so δ = z² / (n + z²).
    bound = Z * Z / (1000 + Z * Z)
    assert tango_interval(0, 0, 1000) == pytest.approx((-bound, bound), abs=1e-12)


def test_swapped_models_give_the_mirrored_interval():
    low, high = tango_interval(3, 9, 500)
    assert tango_interval(9, 3, 500) == pytest.approx((-high, -low), abs=1e-12)
    assert all(-1 <= bound <= 1 for pair in ((5, 0), (0, 5)) for bound in tango_interval(*pair, 5))


def test_arrays_of_different_shapes_are_an_error():
    three, two = np.zeros(3, int), np.zeros(2, int)
    with pytest.raises(ValueError, match="one length"):
        compare_predictions(three, two, three)
    with pytest.raises(ValueError, match="one length"):
        compare_predictions(two[:0], two[:0], two[:0])
