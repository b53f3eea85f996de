"""The files of a run and the batches that they form, as ais_bench packs them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from infer.engines.tensor_specs import TensorSpec

__all__ = ["PURE_NAME", "BatchPlan", "InputFile", "pure_plan"]

PURE_NAME = "pure_infer_data"


@dataclass(frozen=True)
class InputFile:
    """One file of one model input.

    `bytes` is the size of the tensor in it, `rows` its length along the batch axis, `real_rows` the number of those
    that are not padding, `crc32` the checksum in its clip store's manifest (None outside a store).
    """

    path: str
    bytes: int
    mtime_ns: int
    rows: int
    real_rows: int
    crc32: int | None

    @property
    def is_npy(self) -> bool:
        """Whether the file states its own dtype and shape."""
        return self.path.lower().endswith(".npy")


@dataclass(frozen=True)
class BatchPlan:
    """The batches of a run: `entries` are tuples of files, one file per model input, in execution order.

    A row is a sample, or one of its `views`.
    """

    entries: tuple[tuple[InputFile, ...], ...]
    files_per_batch: int
    views: int = 1

    @property
    def runs(self) -> int:
        """Number of batches; the last one may be padded."""
        return -(-len(self.entries) // self.files_per_batch)

    @property
    def real_rows(self) -> int:
        """Number of rows in the files that are not padding."""
        return sum(entry[0].real_rows for entry in self.entries)

    @property
    def samples(self) -> int:
        """Number of real samples in the files."""
        return self.samples_in(self.real_rows)

    def samples_in(self, rows: int) -> int:
        """Return the number of samples that so many rows are of."""
        return -(-rows // self.views)

    @property
    def padded_rows(self) -> int:
        """Number of rows that are run without being real: padding of the last batch and within files."""
        return self.runs * self.files_per_batch * self.entries[0][0].rows - self.real_rows

    @property
    def fingerprint(self) -> str:
        """A digest of every file's path, size and modification time."""
        digest = hashlib.sha256()
        for file in chain.from_iterable(self.entries):
            digest.update(f"{file.path}\0{file.bytes}\0{file.mtime_ns}\0".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def batch(self, number: int) -> tuple[tuple[InputFile, ...], ...]:
        """Return the entries of one batch, without padding."""
        start = number * self.files_per_batch
        return self.entries[start : start + self.files_per_batch]


def pure_plan(specs: Sequence[TensorSpec]) -> BatchPlan:
    """Return the plan of one batch without files, under the name that ais_bench gives it."""
    rows = specs[0].rows
    return BatchPlan((tuple(InputFile(PURE_NAME, spec.nbytes, 0, rows, rows, None) for spec in specs),), 1)
