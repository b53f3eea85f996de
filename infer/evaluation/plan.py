"""Which samples of a list are evaluated, and what their rows of scores depend on; settled before anything is computed.

A subset is stratified by class and the same wherever it is chosen.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from postprocess.metrics import wilson_interval
from preprocess.datasets.annotations import Annotation
from preprocess.datasets.sample_list import list_digest, list_samples
from preprocess.tensors.samples import decoder_name
from vidom.errors import UsageError
from vidom.formats.frame_naming import FrameNaming
from vidom.formats.recipe import Recipe
from vidom.formats.views import ViewPlan

__all__ = ["Job", "Plan", "batches_of", "half_width", "plan_evaluation", "quotas", "stratified"]


@dataclass(frozen=True)
class Job:
    """One sample to evaluate; `index` is its position in the complete list, whatever subset is evaluated."""

    index: int
    annotation: Annotation


@dataclass(frozen=True)
class Plan:
    """The jobs of an evaluation and the entries of the recipe that it needs.

    `total` samples are in the list; `limit` and `seed` are None unless a subset of them is evaluated.
    `published_top1` is the recipe's published accuracy for its method of averaging clips, None without one.
    """

    recipe_name: str
    recipe_sha256: str
    views: ViewPlan
    naming: FrameNaming
    class_names: tuple[str, ...]
    published_top1: float | None
    decoder: str
    data_root: Path
    jobs: tuple[Job, ...]
    total: int
    limit: int | None
    seed: int | None

    @property
    def list_sha256(self) -> str:
        """The digest of the samples that are evaluated."""
        return list_digest([job.annotation for job in self.jobs])

    @property
    def remark(self) -> str:
        """How many samples are evaluated, and the confidence interval that results, a sentence."""
        top1 = 0.5 if self.published_top1 is None else self.published_top1
        source = "widest case" if self.published_top1 is None else "as published"
        subset = f"all {self.total} samples of the list"
        if len(self.jobs) < self.total:
            classes = len({job.annotation.label for job in self.jobs})
            subset = f"stratified subset of {len(self.jobs)} of {self.total} samples"
            subset += f" ({classes} classes, seed {self.seed})"
        points = 100 * half_width(len(self.jobs), top1)
        return (
            f"{subset}: at a top-1 of {100 * top1:.2f} % ({source}) the 95 % interval is ±{points:.2f} points"
        )


def plan_evaluation(
    *, recipe: Recipe, data_root: Path, ann_file: Path, limit: int | None = None, seed: int = 0
) -> Plan:
    """Return the plan for the list, or for a stratified subset of `limit` samples chosen by `seed`.

    Raises UsageError and BadDataError as `list_samples`, `stratified` and `Recipe.labels` do.
    """
    annotations = list_samples(ann_file, data_root=data_root, recipe=recipe)
    jobs = tuple(Job(index, annotation) for index, annotation in enumerate(annotations))
    if limit is not None:
        jobs = stratified(jobs, limit=limit, seed=seed)
    is_subset = len(jobs) < len(annotations)
    published = (one.top1 for one in recipe.published if one.average_clips == recipe.head.average_clips)
    return Plan(
        recipe_name=recipe.name,
        recipe_sha256=recipe.digest,
        views=recipe.views,
        naming=recipe.dataset.frame_naming,
        class_names=recipe.labels(),
        published_top1=next(published, None),
        decoder=decoder_name(jobs[0].annotation, recipe.views.pipeline),
        data_root=data_root,
        jobs=jobs,
        total=len(annotations),
        limit=len(jobs) if is_subset else None,
        seed=seed if is_subset else None,
    )


def stratified(jobs: Sequence[Job], *, limit: int, seed: int) -> tuple[Job, ...]:
    """Return a stratified subset of `limit` jobs, in their order; all jobs where there are no more than that.

    Within a class, jobs with the smallest SHA-256 of seed and id come first. So the subset depends neither on the
    order of the list nor on a library's random numbers, and a larger limit keeps what a smaller one chose wherever
    the share of a class does not shrink. Raises UsageError for a limit below 1.
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
        for job in sorted(members, key=lambda job: _rank(seed, job))[: shares[label]]
    ]
    return tuple(sorted(chosen, key=lambda job: job.index))


def quotas(sizes: Mapping[int, int], limit: int) -> dict[int, int]:
    """Return how many samples of each class are taken: its share of `limit`, rounded so that the sum is `limit`.

    The method of largest remainders: what rounding down leaves over goes, one each, to the classes with the largest
    fractions; among equal fractions the lower class comes first.
    """
    total = sum(sizes.values())
    limit = min(limit, total)
    shares = {label: divmod(limit * size, total) for label, size in sizes.items()}
    rest = limit - sum(quotient for quotient, _ in shares.values())
    favoured = sorted(shares, key=lambda label: (-shares[label][1], label))[:rest]
    return {label: quotient + (label in favoured) for label, (quotient, _) in shares.items()}


def half_width(n: int, accuracy: float) -> float:
    """Return half of the 95 % Wilson interval of `n` samples at about this accuracy."""
    low, high = wilson_interval(round(accuracy * n), n)
    return (high - low) / 2


def batches_of(jobs: Sequence[Job], size: int) -> Iterator[tuple[Job, ...]]:
    """Yield the jobs in batches of `size`; the last one may be smaller."""
    remaining = iter(jobs)
    while batch := tuple(islice(remaining, size)):
        yield batch


def _rank(seed: int, job: Job) -> bytes:
    return hashlib.sha256(f"{seed} {job.annotation.id}".encode()).digest()
