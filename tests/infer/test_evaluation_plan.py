from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infer.evaluation.plan import Job, batches_of, half_width, quotas, stratified
from preprocess.datasets.annotations import Annotation
from vidom.errors import UsageError


def jobs_of(labels: list[int]) -> list[Job]:
    return [
        Job(index, Annotation(f"v{index}", f"v{index}", None, label)) for index, label in enumerate(labels)
    ]


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ({0: 50, 1: 30, 2: 20}, 10, {0: 5, 1: 3, 2: 2}),
        # 10 · 7/12 = 5.83, 10 · 3/12 = 2.5, 10 · 2/12 = 1.67: the two largest fractions are rounded up.
        ({0: 7, 1: 3, 2: 2}, 10, {0: 6, 1: 2, 2: 2}),
        # Of equal fractions the lower class is rounded up.
        ({2: 1, 0: 1, 1: 1}, 2, {0: 1, 1: 1, 2: 0}),
        ({0: 2, 1: 1}, 9, {0: 2, 1: 1}),
    ],
)
def test_quotas_by_hand(sizes: dict[int, int], limit: int, expected: dict[int, int]):
    assert quotas(sizes, limit) == expected


@given(
    st.dictionaries(st.integers(0, 400), st.integers(1, 300), min_size=1, max_size=60), st.integers(1, 30_000)
)
def test_each_class_has_its_share(sizes: dict[int, int], limit: int):
    total = sum(sizes.values())
    shares = quotas(sizes, limit)
    assert sum(shares.values()) == min(limit, total)
    assert all(abs(shares[label] - min(limit, total) * size / total) < 1 for label, size in sizes.items())
    assert all(0 <= shares[label] <= size for label, size in sizes.items())


def test_the_subset_is_stratified_deterministic_and_in_order():
    jobs = jobs_of([0] * 50 + [1] * 30 + [2] * 20)
    chosen = stratified(jobs, limit=10, seed=0)
    assert Counter(job.annotation.label for job in chosen) == {0: 5, 1: 3, 2: 2}
    assert [job.index for job in chosen] == sorted(job.index for job in chosen)
    shuffled = random.Random(1).sample(jobs, len(jobs))
    assert stratified(shuffled, limit=10, seed=0) == chosen
    assert stratified(jobs, limit=10, seed=1) != chosen
    assert set(chosen) < set(stratified(jobs, limit=20, seed=0))
    assert stratified(jobs, limit=1000, seed=3) == tuple(jobs)
    with pytest.raises(UsageError, match="--limit must be at least 1"):
        stratified(jobs, limit=0, seed=0)


def test_the_interval_that_results_from_a_limit():
    # 1.96 sqrt(0.62 * 0.38 / 1000) is 0.03008; Wilson's differs in the fourth digit.
    assert half_width(1000, 0.62) == pytest.approx(0.03008, abs=1e-4)
    assert half_width(24_777, 0.6187) == pytest.approx(0.00605, abs=2e-5)


def test_batches_keep_the_order_and_the_last_is_smaller():
    jobs = jobs_of([0] * 7)
    assert [[job.index for job in batch] for batch in batches_of(jobs, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
