"""Rows by an engine that reads files: clips are packed, run, read and deleted in chunks on disk.

    FOLDER/chunk.part/store/    the clips of one chunk
    FOLDER/chunk.part/          and what ais_bench wrote for them

The rows of a chunk are recorded before its files are deleted, so that a killed run resumes with the first chunk that
has none. No more than one chunk and its outputs is on disk at any time.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from infer.engines.base import kept_if_failed
from infer.engines.engine_options import AscendOptions
from infer.engines.open import open_engine
from infer.evaluation.execution import Block, Computed, Identity, OnBad, Results
from infer.evaluation.plan import Job, Plan, batches_of
from infer.evaluation.record import Row
from postprocess.matching import match_by_store
from postprocess.outputs import find_outputs
from preprocess.pack_groups import Group, StoreDtype, pack_group, store_header
from vidom.errors import UnavailableError, UsageError
from vidom.files import free_bytes, human_bytes, sha256_file
from vidom.formats.clip_store import ClipStore, StoreHeader
from vidom.formats.clip_store_writer import ClipStoreWriter
from vidom.formats.engine_outputs import read_output
from vidom.formats.recipe import Recipe
from vidom.parallel.workers import each_finished

__all__ = ["ChunkModel", "ChunkSource"]

_log = logging.getLogger(__name__)

_CHUNK = "chunk.part"


@dataclass(frozen=True)
class ChunkSource:
    """ais_bench with its options, and how clips are packed for the offline model; see `RowSource`.

    `dtype` is that of the model's input; `batch_size` its batch where no build record says so. A chunk takes up to
    `chunk_bytes` of clips, whose stores have `header`.
    """

    atomic_blocks: ClassVar[bool] = False

    model: Path
    options: AscendOptions
    batch_size: int | None
    dtype: StoreDtype
    chunk_bytes: int
    header: StoreHeader = field(hash=False)
    recipe: Recipe = field(hash=False)
    data_root: Path

    @classmethod
    def of(
        cls,
        plan: Plan,
        recipe: Recipe,
        *,
        model: Path,
        options: AscendOptions,
        batch_size: int | None,
        dtype: StoreDtype,
        chunk_bytes: int,
    ) -> ChunkSource:
        """Return the source for the plan's samples. Raises UsageError when they cannot be packed in this dtype.

        Args:
            plan: the jobs and their folder.
            recipe: the recipe that the plan was made from.
            model: the offline model.
            options: the devices that run it.
            batch_size: its batch, None where a build record says so.
            dtype: the dtype of its input.
            chunk_bytes: the bytes of clips on disk at a time.
        """
        samples = [job.annotation for job in plan.jobs]
        header = store_header(recipe, samples, batch_size=1, per_view=False, dtype=dtype)
        return cls(model, options, batch_size, dtype, chunk_bytes, header, recipe, plan.data_root)

    def open(self) -> ChunkModel:
        """Return the model, to be run by the ais_bench that is installed here."""
        return ChunkModel(self)

    def blocks(self, plan: Plan, identity: Identity) -> list[Block]:
        """Return the plan's jobs in chunks of complete batches, so that only the last one is padded.

        Raises UsageError when a chunk does not hold a batch.
        """
        batch, size = self.batch_size or 1, self.header.sample_bytes
        samples = self.chunk_bytes // size // batch * batch
        if samples < 1:
            raise UsageError(
                f"--window {human_bytes(self.chunk_bytes)} is smaller than a batch of {batch} samples of "
                f"{human_bytes(size)} each. Give at least {human_bytes(batch * size)}."
            )
        blocks = list(batches_of(plan.jobs, samples))
        _log.info(f"{len(blocks)} chunks of up to {samples} samples, {human_bytes(samples * size)} each.")
        return blocks

    def reference(self) -> None:
        """Return None: an offline model has the arithmetic that it was built with."""


class ChunkModel:
    """An offline model and the ais_bench that is installed here; see `OpenModel`."""

    def __init__(self, source: ChunkSource) -> None:
        self._source = source
        self._engine = open_engine(source.model, source.options, batch_size=source.batch_size)
        self.identity = Identity(
            engine=self._engine.name,
            engine_version=self._engine.version,
            batch_size=source.batch_size,
            facts={"dtype": source.dtype},
            model_sha256=sha256_file(source.model),
        )

    def computed(self, blocks: Sequence[Block], *, workers: int, folder: Path, on_bad: OnBad) -> Results:
        """Yield the result of each chunk, whose files are deleted when the next one is requested.

        Raises UnavailableError when the disk that holds `folder` is too small for a chunk, and what `infer` raises;
        after a failure of ais_bench the chunk is kept for inspection.
        """
        if blocks:
            self._check_room(folder, samples=max(map(len, blocks)))
        for jobs in blocks:
            with _chunk_folder(folder / _CHUNK) as chunk:
                yield self._compute(jobs, chunk, workers=workers, on_bad=on_bad)

    def _check_room(self, folder: Path, *, samples: int) -> None:
        needed, free = samples * self._source.header.sample_bytes, free_bytes(folder)
        if needed > free:
            raise UnavailableError(
                f"A chunk of {samples} samples takes {human_bytes(needed)}, but only {human_bytes(free)} are free in "
                f"{folder}. Give a smaller --window, or an --output_dir on a larger disk."
            )

    def _compute(self, jobs: Sequence[Job], folder: Path, *, workers: int, on_bad: OnBad) -> Computed:
        bad = self._pack(jobs, folder / "store", workers=workers)
        if len(bad) == len(jobs) or (bad and on_bad == "fail"):
            return Computed([], bad, 0)
        rows, seconds = self._infer(folder)
        return Computed(rows, bad, seconds, disk_bytes=_bytes_in(folder))

    def _pack(self, jobs: Sequence[Job], folder: Path, *, workers: int) -> list[tuple[Job, str]]:
        """Write the clips of the jobs to a store in `folder`; return the unreadable jobs, with the reason."""
        source, writer = self._source, ClipStoreWriter(folder, self._source.header)
        groups = [
            Group(
                (writer.clips / writer.file_name(job.index),),
                ((job.index, job.annotation),),
                source.data_root,
                source.recipe,
                source.header,
            )
            for job in jobs
        ]
        for packed in each_finished(pack_group, groups, workers=workers):
            writer.add(packed)
        reasons = {index: skip.reason for index, skip in writer.skipped.items()}
        writer.finish(source.recipe.labels(), source.recipe.dataset.info_name)
        # ais_bench refuses what the group or others may write.
        for path in (folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode & 0o750)
        return [(job, reasons[job.index]) for job in jobs if job.index in reasons]

    def _infer(self, folder: Path) -> tuple[list[Row], float]:
        """Return the rows that ais_bench computes for the store in `folder`, and the seconds that it took."""
        run = self._engine.infer_files(folder / "store" / "clips", folder)
        store = ClipStore.open(folder / "store")
        classes = len(store.labels)
        rows = []
        for match in match_by_store(find_outputs(run.summary), store):
            (index,) = match.samples
            scores = np.asarray(read_output(match.output.path, classes=classes), np.float32)
            if len(scores) != 1:
                raise UsageError(
                    f"{self._source.model} returns {len(scores)} rows of scores for a sample, so it takes smaller "
                    "samples, such as single views. Use the model's own recipe, exported without --per_view."
                )
            rows.append(Row(index, store.samples[index].id, store.samples[index].label, scores[0]))
        return sorted(rows, key=lambda row: row.index), run.seconds


@contextmanager
def _chunk_folder(folder: Path) -> Iterator[Path]:
    """Yield the empty folder and delete it afterwards, unless ais_bench failed on its content."""
    if folder.exists():
        shutil.rmtree(folder)
    # ais_bench gives its output folder this mode, and warns where it differs.
    folder.mkdir(parents=True, mode=0o750)
    with kept_if_failed(folder):
        yield folder


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
