"""What the workers of a Ray cluster do in an evaluation: decode a batch, run a batch, or do all of a chunk."""

from __future__ import annotations

import pickle
import platform
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from infer.evaluation.batches import BatchModel, BatchSource
from infer.evaluation.buffers import FilledBatch, SampleMaker
from infer.evaluation.chunks import ChunkModel, ChunkSource
from infer.evaluation.execution import Identity, OnBad, RowSource
from infer.evaluation.plan import Job
from vidom.errors import UnavailableError, UserError
from vidom.parallel.ray_workplace import Failure, Guard

__all__ = ["BatchEngine", "compute_chunk", "decode_batch", "identify"]


def identify(source: RowSource) -> Identity:
    """Return what model and engine are on the node that this runs on."""
    return source.open().identity


def decode_batch(
    row: dict[str, Any], *, maker: SampleMaker, shape: tuple[int, ...], guard: Guard
) -> dict[str, Any]:
    """Return the row with the tensor of its pickled `jobs`; rows of unreadable ones and padding are zeros."""
    jobs: Sequence[Job] = pickle.loads(row["jobs"])
    try:
        guard.begin(f"decode {row['block']}", what=_name_of(jobs))
        batch = maker.batch(jobs, shape)
        tensor, faults = batch.tensor, pickle.dumps(batch.faults)
    except (UserError, OSError) as error:
        tensor, faults = maker.batch((), shape).tensor, pickle.dumps(Failure(error))
    return {"block": row["block"], "jobs": row["jobs"], "faults": faults, "tensor": tensor}


class BatchEngine:
    """An array engine in a Ray actor, which runs a batch per call; the model is opened with the first batch.

    Returns UnavailableError instead of rows on a node whose engine or model differs from `identity`.
    """

    def __init__(self, source: BatchSource, identity: Identity, guard: Guard) -> None:
        self._source = source
        self._identity = identity
        self._guard = guard
        self._model: BatchModel | None = None

    def __call__(self, columns: dict[str, Any]) -> dict[str, list[bytes]]:
        """Return the column `results`: the pickled list with the result of the batch."""
        ((block,), (jobs,), (faults,), (tensor,)) = (
            columns[key] for key in ("block", "jobs", "faults", "tensor")
        )
        try:
            result: object = self._run(str(block), pickle.loads(jobs), pickle.loads(faults), tensor)
        except (UserError, OSError) as error:
            result = Failure(error)
        return {"results": [pickle.dumps([result])]}

    def _run(self, block: str, jobs: tuple[Job, ...], faults: Any, tensor: Any) -> object:
        if isinstance(faults, Failure):
            return faults
        self._guard.begin(f"run {block}", what=_name_of(jobs))
        if self._model is None:
            model = self._source.open()
            _check_same(self._source.model, model.identity, self._identity)
            self._model = model
        return self._model.compute(FilledBatch(jobs, tensor, faults))


def compute_chunk(
    row: dict[str, Any], *, source: ChunkSource, identity: Identity, workers: int, on_bad: OnBad, guard: Guard
) -> dict[str, bytes]:
    """Return the row `results`: the pickled list with the result of the chunk of the row's pickled `jobs`.

    The clips are in the node's own folder for temporary files (TMPDIR), and deleted afterwards.
    """
    jobs: tuple[Job, ...] = pickle.loads(row["jobs"])
    try:
        guard.begin(row["block"], what=_name_of(jobs))
        model = _chunk_model(source)
        _check_same(source.model, model.identity, identity)
        with TemporaryDirectory(prefix="vidom-chunk-") as folder:
            results: list[object] = list(
                model.computed([jobs], workers=workers, folder=Path(folder), on_bad=on_bad)
            )
    except (UserError, OSError) as error:
        results = [Failure(error)]
    return {"results": pickle.dumps(results)}


@lru_cache
def _chunk_model(source: ChunkSource) -> ChunkModel:
    # A worker computes many chunks; looking for ais_bench takes as long as a small one.
    return source.open()


def _check_same(model: Path, here: Identity, first: Identity) -> None:
    ours, others = asdict(here), asdict(first)
    details = "; ".join(
        f"{key} {ours[key]} there, {others[key]} elsewhere" for key in others if ours[key] != others[key]
    )
    if details:
        raise UnavailableError(
            f"{model} or its engine on the node {platform.node()} differs from the cluster's first node ({details}). "
            "All nodes of the Ray cluster must have the same model and engine."
        )


def _name_of(jobs: Sequence[Job]) -> str:
    return f"The batch of {jobs[0].annotation.id} and {len(jobs) - 1} further samples"
