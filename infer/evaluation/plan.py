"""What an evaluation is to do, settled before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from infer.evaluation.jobs import Job, half_width, stratified
from infer.evaluation.score_record import Row
from preprocess.datasets.sample_list import decoder_name, list_digest, list_samples
from vidom.errors import BadDataError
from vidom.files import sha256_file
from vidom.formats.recipe import Recipe

__all__ = ["Computed", "OnBad", "Plan", "Ran", "plan_evaluation", "unreadable"]

OnBad = Literal["fail", "skip"]


@dataclass(frozen=True)
class Plan:
    """The jobs of an evaluation, `total` samples being in the list that they were chosen from."""

    recipe: Recipe
    data_root: Path
    jobs: tuple[Job, ...]
    total: int
    limit: int | None
    seed: int | None

    def header(
        self,
        model: Path,
        *,
        engine: str,
        engine_version: str,
        batch_size: int | None,
        facts: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return all that a row of scores depends on: the fingerprint that its record begins with.

        `facts` are the engine's own. Where the files lie, and how many processes and threads there are, is no part.
        """
        return {
            "recipe": self.recipe.name,
            "recipe_sha256": self.recipe.digest,
            "list_sha256": list_digest([job.annotation for job in self.jobs]),
            "samples": len(self.jobs),
            "limit": self.limit,
            "seed": self.seed,
            "decoder": decoder_name(self.jobs[0].annotation, self.recipe),
            "model_sha256": sha256_file(model),
            "engine": engine,
            "engine_version": engine_version,
            "batch_size": batch_size,
            **facts,
        }

    @property
    def remark(self) -> str:
        """How many samples are evaluated, and what interval that buys, a sentence."""
        published = [
            one for one in self.recipe.published if one.average_clips == self.recipe.head.average_clips
        ]
        accuracy = published[0].top1 if published else 0.5
        told = "as published" if published else "the widest case"
        drawn = f"all {self.total} samples of the list"
        if len(self.jobs) < self.total:
            classes = len({job.annotation.label for job in self.jobs})
            drawn = f"{len(self.jobs)} of {self.total} samples, drawn by class ({classes} classes, seed {self.seed})"
        points = 100 * half_width(len(self.jobs), accuracy)
        return f"{drawn}: at a top-1 of {100 * accuracy:.2f} % ({told}) the 95 % interval is ±{points:.2f} points"


@dataclass(frozen=True)
class Ran:
    """What came of a plan: the samples that could not be read, by index, with the reason, and what it took.

    `seconds` are the wall time of this run, in which `computed` samples were run; `engine_seconds` of them the engine
    took. `resumed` samples an earlier run had finished. `peak_disk_bytes` is what lay in temporary files at most.
    """

    faults: Mapping[int, str]
    resumed: int
    computed: int
    seconds: float
    engine_seconds: float
    peak_disk_bytes: int = 0


@dataclass(frozen=True)
class Computed:
    """What came of some jobs: their rows, those that could not be read with the reason, and the engine's seconds."""

    rows: list[Row]
    bad: list[tuple[Job, str]]
    seconds: float


def plan_evaluation(
    *, recipe: Recipe, data_root: Path, ann_file: Path, limit: int | None = None, seed: int = 0
) -> Plan:
    """Return the plan for the list, or for `limit` of its samples drawn by class with `seed`.

    Raises UsageError and BadDataError as `list_samples` and `stratified` do.
    """
    annotations = list_samples(ann_file, data_root=data_root, recipe=recipe)
    jobs = tuple(Job(index, annotation) for index, annotation in enumerate(annotations))
    if limit is not None:
        jobs = stratified(jobs, limit=limit, seed=seed)
    chosen = len(jobs) < len(annotations)
    return Plan(
        recipe=recipe,
        data_root=data_root,
        jobs=jobs,
        total=len(annotations),
        limit=len(jobs) if chosen else None,
        seed=seed if chosen else None,
    )


def unreadable(job: Job, reason: str) -> BadDataError:
    """Return the error of a sample that can not be read, where that ends the run."""
    return BadDataError(
        f"Sample {job.index} of the list ({job.annotation.id}) can not be read. {reason} What was computed so far is "
        "kept. Repair the video and run the same command again, or use --on_bad skip to go on without it."
    )
