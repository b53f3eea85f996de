"""Run an evaluation: the interface between executors and engines, and the executor on this machine.

An executor takes a plan and a row source, cuts the jobs into blocks, has the rows of each block computed and appends
them to the record. There are two executors, `run_locally` and `infer.evaluation.on_ray.run_on_ray`, and two row
sources: `infer.evaluation.batches`, for engines that take arrays, and `infer.evaluation.chunks`, for engines that
read files. Any combination of them gives the same rows, so one can resume a run of the other.
"""

from __future__ import annotations

import time
from collections.abc import Container, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from infer.engines.tensor_specs import TensorSpec
from infer.evaluation.plan import Job, Plan
from infer.evaluation.record import Row, RowRecord
from vidom.errors import BadDataError
from vidom.progress import progress

__all__ = [
    "Block",
    "Computed",
    "Identity",
    "OnBad",
    "OpenModel",
    "Results",
    "RowSource",
    "RunSummary",
    "collect",
    "open_record",
    "run_locally",
    "unfinished",
]

OnBad = Literal["fail", "skip"]
Block = tuple[Job, ...]
Results = Generator["Computed", None, None]


@dataclass(frozen=True)
class Identity:
    """What rows of scores depend on besides the plan: model and engine as one node has them.

    `facts` are specific to the engine. The tensors of the model are empty where only files describe them.
    """

    engine: str
    engine_version: str
    batch_size: int | None
    facts: Mapping[str, Any]
    model_sha256: str
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


@dataclass(frozen=True)
class Computed:
    """The result of a block of jobs: its rows, the unreadable jobs with the reason, and what it took.

    `seconds` are the engine's; `disk_bytes` were in temporary files at most.
    """

    rows: list[Row]
    bad: list[tuple[Job, str]]
    seconds: float
    disk_bytes: int = 0


@dataclass(frozen=True)
class RunSummary:
    """The outcome of a run: the unreadable samples by index, with the reason, and what it took.

    `seconds` are the wall time of this run, in which `computed` samples were computed; `engine_seconds` of them were
    the engine's. An earlier run had finished `resumed` samples. Temporary files took at most `peak_disk_bytes`.
    """

    faults: Mapping[int, str]
    resumed: int
    computed: int
    seconds: float
    engine_seconds: float
    peak_disk_bytes: int = 0


class OpenModel(Protocol):
    """A model that this process can compute rows with."""

    identity: Identity

    def computed(self, blocks: Sequence[Block], *, workers: int, folder: Path, on_bad: OnBad) -> Results:
        """Yield the result of each block, in order; `workers` processes read samples, temporary files are in `folder`.

        Unless `on_bad` is "skip", the caller stops at the first result with an unreadable job, and the engine need
        not have run on it. Raises what the engine raises.
        """


class RowSource(Protocol):
    """Engine, model and view plan: all that any process needs to compute rows for jobs. Picklable."""

    atomic_blocks: ClassVar[bool]
    """Whether an incomplete block is computed again in full, so that its batch composition is fixed."""

    @property
    def model(self) -> Path:
        """The model's file."""

    def open(self) -> OpenModel:
        """Return the model, ready in this process. Raises what the engine raises."""

    def blocks(self, plan: Plan, identity: Identity) -> list[Block]:
        """Return the plan's jobs in blocks that are computed together.

        Raises UsageError when the model does not take the plan's samples.
        """

    def reference(self) -> RowSource | None:
        """Return the source of the same rows in float32, None where the arithmetic is the model's own."""


def run_locally(
    plan: Plan, source: RowSource, output_dir: Path, *, workers: int, on_bad: OnBad
) -> RunSummary:
    """Compute the missing rows of the record in `output_dir` on this machine.

    Raises UsageError when the model does not fit the plan or the folder holds a different record, BadDataError at the
    first unreadable sample unless `on_bad` is "skip", and what the engine raises.
    """
    model = source.open()
    blocks = source.blocks(plan, model.identity)
    with closing(open_record(plan, model.identity, output_dir)) as record:
        todo = unfinished(blocks, record.done, atomic=source.atomic_blocks)
        with closing(model.computed(todo, workers=workers, folder=output_dir, on_bad=on_bad)) as results:
            return collect(plan, record, results, engines=1, on_bad=on_bad)


def open_record(plan: Plan, identity: Identity, folder: Path) -> RowRecord:
    """Return the record of the evaluation, whose header is all that its rows depend on.

    Locations of files and numbers of processes and threads are not part of it. Raises UsageError as `RowRecord` does.
    """
    header = {
        "recipe": plan.recipe_name,
        "recipe_sha256": plan.recipe_sha256,
        "list_sha256": plan.list_sha256,
        "samples": len(plan.jobs),
        "limit": plan.limit,
        "seed": plan.seed,
        "decoder": plan.decoder,
        "model_sha256": identity.model_sha256,
        "engine": identity.engine,
        "engine_version": identity.engine_version,
        "batch_size": identity.batch_size,
    }
    return RowRecord(folder, {**header, **identity.facts})


def unfinished(blocks: Sequence[Block], done: Container[int], *, atomic: bool) -> list[Block]:
    """Return the blocks with jobs that are not done: complete ones if `atomic`, otherwise only those jobs."""
    missing = [tuple(job for job in block if job.index not in done) for block in blocks]
    return [block if atomic else rest for block, rest in zip(blocks, missing, strict=True) if rest]


def collect(
    plan: Plan, record: RowRecord, results: Iterable[Computed], *, engines: int, on_bad: OnBad
) -> RunSummary:
    """Append the rows of all results to the record; the engine's time is that of `engines` working in parallel.

    Raises BadDataError at the first unreadable sample unless `on_bad` is "skip".
    """
    resumed, faults, engine_seconds, peak = len(record.done), dict[int, str](), 0.0, 0
    started = time.perf_counter()
    with progress(total=len(plan.jobs), unit="sample", label="evaluate", done=resumed) as bar:
        for computed in results:
            if computed.bad and on_bad == "fail":
                raise _unreadable(*computed.bad[0])
            faults |= {job.index: reason for job, reason in computed.bad}
            engine_seconds += computed.seconds / engines
            peak = max(peak, computed.disk_bytes)
            before = len(record.done)
            record.add(computed.rows)
            bar.update(len(record.done) - before + len(computed.bad))
    seconds = time.perf_counter() - started
    return RunSummary(faults, resumed, len(record.done) - resumed, seconds, engine_seconds, peak)


def _unreadable(job: Job, reason: str) -> BadDataError:
    return BadDataError(
        f"Sample {job.index} of the list ({job.annotation.id}) cannot be read. {reason} Rows computed so far are kept. "
        "Fix the video and rerun, or use --on_bad skip to continue without it."
    )
