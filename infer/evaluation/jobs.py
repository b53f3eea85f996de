"""Which samples of a list are evaluated: all of them, or a stratified part that is the same wherever it is drawn."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from postprocess.metrics import wilson_interval
from preprocess.datasets.annotations import Annotation
from vidom.errors import UsageError

__all__ = ["Job", "batches_of", "half_width", "quotas", "stratified"]


@dataclass(frozen=True)
class Job:
    """One sample to evaluate; `index` is its position in the whole list, whatever part of it is evaluated."""

    index: int
    annotation: Annotation


def stratified(jobs: Sequence[Job], *, limit: int, seed: int) -> tuple[Job, ...]:
    """Return `limit` of the jobs, in their order, each class with its share of them; all where there are no more.

    Of a class, those come first whose SHA-256 of seed and id is smallest. So the choice depends neither on the
    list's order nor on a library's random numbers, and a larger limit keeps what a smaller one chose wherever a
    class's share does not shrink. Raises UsageError for a limit below 1.
    """
    if limit < 1:
        raise UsageError(f"--limit must be at least 1, found {limit}.")
    classes: dict[int, list[Job]] = defaultdict(list)
    for job in jobs:
        classes[job.annotation.label].append(job)
    shares = quotas({label: len(members) for label, members in classes.items()}, limit)
    chosen = [
        job
        for label, members in classes.items()
        for job in sorted(members, key=lambda job: _draw(seed, job))[: shares[label]]
    ]
    return tuple(sorted(chosen, key=lambda job: job.index))


def quotas(sizes: Mapping[int, int], limit: int) -> dict[int, int]:
    """Return how many of each class are taken: its share of `limit`, rounded so that they add up to it.

    The fractions cut off go, one each, to the classes with the largest of them, of equal ones to the lower class
    (the method of largest remainders).
    """
    total = sum(sizes.values())
    limit = min(limit, total)
    shares = {label: divmod(limit * size, total) for label, size in sizes.items()}
    rest = limit - sum(whole for whole, _ in shares.values())
    favoured = sorted(shares, key=lambda label: (-shares[label][1], label))[:rest]
    return {label: whole + (label in favoured) for label, (whole, _) in shares.items()}


def half_width(n: int, accuracy: float) -> float:
    """Return half of the 95 % Wilson interval that `n` samples give at about this accuracy."""
    low, high = wilson_interval(round(accuracy * n), n)
    return (high - low) / 2


def batches_of(jobs: Sequence[Job], size: int) -> Iterator[tuple[Job, ...]]:
    """Yield the jobs in batches, the last one perhaps smaller."""
    remaining = iter(jobs)
    while batch := tuple(islice(remaining, size)):
        yield batch


def _draw(seed: int, job: Job) -> bytes:
    return hashlib.sha256(f"{seed} {job.annotation.id}".encode()).digest()
