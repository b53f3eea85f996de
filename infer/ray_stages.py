"""What the workers of a Ray cluster do of an evaluation: decode a batch, run it. Each stage takes and gives one row."""

from __future__ import annotations

import pickle
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infer.engine import Engine, LocalEngine, Precision, open_engine
from infer.evaluate_jobs import Job
from infer.evaluate_record import Row
from infer.evaluate_stream import batch_rows, engine_header
from infer.evaluate_tensors import SampleMaker
from infer.stream import FilledBatch
from infer.tensors import TensorSpec
from preprocess.ray_workplace import Failure, Guard
from vidom.errors import Lacking, UserError
from vidom.files import sha256_file

__all__ = ["BatchEngine", "Computed", "EngineOptions", "Identity", "decode_batch", "identify"]


@dataclass(frozen=True)
class EngineOptions:
    """How each node opens the model."""

    model: Path
    engine: LocalEngine
    batch_size: int | None
    threads: int | None
    provider: str | None
    precision: Precision | None


@dataclass(frozen=True)
class Identity:
    """What an opened model is; `header` is the engine's part of what a row of scores depends on."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    header: dict[str, Any]
    model_sha256: str


@dataclass(frozen=True)
class Computed:
    """What became of a batch: its rows, the jobs that could not be read with the reason, and the engine's seconds."""

    rows: list[Row]
    bad: list[tuple[Job, str]]
    seconds: float


def identify(options: EngineOptions, guard: Guard) -> Identity | Failure:
    """Return what the model is on the node that this runs on."""
    try:
        guard.workplace.enter()
        return _identity(_opened(options))
    except (UserError, OSError) as error:
        return Failure(error)


def decode_batch(
    row: dict[str, Any], *, maker: SampleMaker, shape: tuple[int, ...], guard: Guard
) -> dict[str, Any]:
    """Return the row with the tensor of its pickled `jobs`; rows of unreadable ones and beyond them are zeros."""
    jobs: Sequence[Job] = pickle.loads(row["jobs"])
    tensor = np.zeros(shape, maker.dtype)
    try:
        guard.begin(f"decode {row['block']}", what=_what(jobs))
        faults: object = tuple(maker.fill(job, out) for job, out in zip(jobs, tensor, strict=False))
    except (UserError, OSError) as error:
        faults = Failure(error)
    return {"block": row["block"], "jobs": row["jobs"], "faults": pickle.dumps(faults), "tensor": tensor}


class BatchEngine:
    """An engine that runs batches of one row each; the model is opened with the first of them.

    A node whose engine or model is another than that of `identity` tells Lacking instead of rows.
    """

    def __init__(self, options: EngineOptions, identity: Identity, guard: Guard) -> None:
        self._options = options
        self._identity = identity
        self._guard = guard
        self._engine: Engine | None = None

    def __call__(self, columns: dict[str, Any]) -> dict[str, list[bytes]]:
        """Return the column `results`: the pickled list of what became of the batch."""
        ((block,), (jobs,), (faults,), (tensor,)) = (
            columns[key] for key in ("block", "jobs", "faults", "tensor")
        )
        try:
            result: object = self._run(str(block), pickle.loads(jobs), pickle.loads(faults), tensor)
        except (UserError, OSError) as error:
            result = Failure(error)
        return {"results": [pickle.dumps([result])]}

    def _run(self, block: str, jobs: Sequence[Job], faults: Any, tensor: Any) -> object:
        if isinstance(faults, Failure):
            return faults
        self._guard.begin(f"run {block}", what=_what(jobs))
        self._engine = self._engine or self._checked()
        began = time.perf_counter()
        rows = batch_rows(self._engine, FilledBatch(tuple(jobs), tensor, faults))
        bad = [(job, fault) for job, fault in zip(jobs, faults, strict=True) if fault is not None]
        return Computed(rows, bad, time.perf_counter() - began)

    def _checked(self) -> Engine:
        engine = _opened(self._options)
        found = _identity(engine)
        if found != self._identity:
            there, wanted = asdict(found), asdict(self._identity)
            details = "; ".join(
                f"{key} {there[key]} there, {wanted[key]} elsewhere"
                for key in wanted
                if there[key] != wanted[key]
            )
            raise Lacking(
                f"The node {platform.node()} opens {engine.path} as another model or by another engine ({details}). "
                "All nodes of the Ray cluster must have the same."
            )
        return engine


def _opened(options: EngineOptions) -> Engine:
    return open_engine(
        options.model,
        engine=options.engine,
        batch_size=options.batch_size,
        threads=options.threads,
        provider=options.provider,
        precision=options.precision,
    )


def _identity(engine: Engine) -> Identity:
    return Identity(engine.inputs, engine.outputs, engine_header(engine), sha256_file(engine.path))


def _what(jobs: Sequence[Job]) -> str:
    return f"The batch of {jobs[0].annotation.id} and {len(jobs) - 1} further samples"
