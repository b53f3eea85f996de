"""What the workers of a Ray cluster do of an evaluation: decode a batch, run it, or do a whole window of clips."""

from __future__ import annotations

import pickle
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from infer.engines.base import Engine, LocalEngine, Precision, open_engine
from infer.engines.tensor_specs import TensorSpec
from infer.evaluation.jobs import Job
from infer.evaluation.one_window import WindowedModel, check_room, run_window, window_engine
from infer.evaluation.plan import Computed, OnBad, Plan
from infer.evaluation.sample_maker import SampleMaker
from infer.evaluation.stream import FilledBatch
from infer.evaluation.streamed import batch_rows, engine_header
from vidom.errors import UnavailableError, UserError
from vidom.files import sha256_file
from vidom.formats.clip_store import StoreHeader
from vidom.parallel.ray_workplace import Failure, Guard

__all__ = ["BatchEngine", "EngineOptions", "Identity", "decode_batch", "do_window", "identify"]


@dataclass(frozen=True)
class EngineOptions:
    """How a process opens the model, on whichever node; see `infer.engines.base.open_engine`."""

    model: Path
    engine: LocalEngine
    batch_size: int | None
    threads: int | None
    provider: str | None
    precision: Precision | None

    def open(self) -> Engine:
        """Return the model loaded in this process, where others decode on the same cores."""
        return open_engine(
            self.model,
            engine=self.engine,
            batch_size=self.batch_size,
            threads=self.threads,
            provider=self.provider,
            precision=self.precision,
            shares_cores=True,
        )


@dataclass(frozen=True)
class Identity:
    """What an opened model is; `header` is the engine's part of what a row of scores depends on."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    header: dict[str, Any]
    model_sha256: str


def identify(options: EngineOptions) -> Identity:
    """Return what the model is on the node that this runs on."""
    return _identity(options.open())


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

    A node whose engine or model is another than that of `identity` tells UnavailableError instead of rows.
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
        engine = self._options.open()
        _refuse_other(f"{engine.path}", found=asdict(_identity(engine)), wanted=asdict(self._identity))
        return engine


def do_window(
    row: dict[str, Any],
    *,
    plan: Plan,
    model: WindowedModel,
    engine: Mapping[str, Any],
    header: StoreHeader,
    workers: int,
    on_bad: OnBad,
    guard: Guard,
) -> dict[str, bytes]:
    """Return the row `results`: the pickled list of what became of the window's `jobs`, of which no file is left.

    The clips lie in the node's own folder for temporary files (TMPDIR).
    """
    jobs: tuple[Job, ...] = pickle.loads(row["jobs"])
    try:
        guard.begin(row["block"], what=_what(jobs))
        _refuse_other(f"ais_bench for {model.path}", found=_window_engine(model), wanted=engine)
        with TemporaryDirectory(prefix="vidom-window-") as folder:
            check_room(Path(folder), samples=len(jobs), header=header)
            result: object = run_window(
                replace(plan, jobs=jobs), model, header, Path(folder), workers=workers, on_bad=on_bad
            )
    except (UserError, OSError) as error:
        result = Failure(error)
    return {"results": pickle.dumps([result])}


def _identity(engine: Engine) -> Identity:
    return Identity(engine.inputs, engine.outputs, engine_header(engine), sha256_file(engine.path))


@lru_cache
def _window_engine(model: WindowedModel) -> dict[str, Any]:
    return window_engine(model)


def _refuse_other(what: str, *, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    details = "; ".join(
        f"{key} {found[key]} there, {wanted[key]} elsewhere" for key in wanted if found[key] != wanted[key]
    )
    if details:
        raise UnavailableError(
            f"The node {platform.node()} has another {what} than the cluster's first ({details}). All nodes of the Ray "
            "cluster must have the same model and engine."
        )


def _what(jobs: Sequence[Job]) -> str:
    return f"The batch of {jobs[0].annotation.id} and {len(jobs) - 1} further samples"
