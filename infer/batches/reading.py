"""The input arrays of a batch, read into memory that all batches reuse."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from infer.batches.batch_plan import BatchPlan, InputFile
from infer.engines.tensor_specs import Array, TensorSpec
from vidom.errors import BadDataError
from vidom.formats.npy import read_npy

__all__ = ["PURE_DATA_TYPES", "BatchReader", "PureDataType", "ReadBatch", "pure_arrays"]

ReadBatch = Callable[[int], list[Array]]
PureDataType = Literal["zero", "random"]
PURE_DATA_TYPES: tuple[PureDataType, ...] = ("zero", "random")


class BatchReader:
    """Reads one batch at a time; the arrays returned are overwritten by the next call."""

    def __init__(self, plan: BatchPlan, specs: Sequence[TensorSpec]) -> None:
        self._plan = plan
        self._buffers = [np.empty(spec.shape, spec.dtype) for spec in specs]

    def read(self, number: int) -> list[Array]:
        """Return the batch as one array per model input, padded with its own first file as ais_bench does.

        Raises BadDataError when a file of a clip store no longer has the checksum it was packed with.
        """
        columns = zip(*self._plan.batch(number), strict=True)
        for buffer, files in zip(self._buffers, columns, strict=True):
            parts = buffer.reshape(-1).view(np.uint8).reshape(self._plan.files_per_batch, -1)
            for part, file in zip(parts, files, strict=False):
                _read_file(file, part, buffer.dtype)
            parts[len(files) :] = parts[0]
        return self._buffers


def pure_arrays(specs: Sequence[TensorSpec], kind: PureDataType) -> list[Array]:
    """Return one array per model input without any file: zeros, or random bytes taken as the dtype."""
    if kind == "zero":
        return [np.zeros(spec.shape, spec.dtype) for spec in specs]
    random = np.random.default_rng(0)
    arrays = (random.integers(0, 256, spec.nbytes, dtype=np.uint8) for spec in specs)
    return [array.view(spec.dtype).reshape(spec.shape) for array, spec in zip(arrays, specs, strict=True)]


def _read_file(file: InputFile, part: Array, dtype: np.dtype[np.generic]) -> None:
    if file.is_npy:
        array = read_npy(file.path, what="input file", max_bytes=file.bytes).astype(
            dtype, order="C", copy=False
        )
        if array.nbytes != file.bytes:
            raise BadDataError(
                f"The input file {file.path} changed: its array had {file.bytes} bytes and now has {array.nbytes}."
            )
        part[:] = array.reshape(-1).view(np.uint8)
    else:
        with Path(file.path).open("rb", buffering=0) as stream:
            count = stream.readinto(part.data)
        if count != file.bytes:
            raise BadDataError(
                f"The input file {file.path} changed: it had {file.bytes} bytes and now has {count}."
            )
    if file.crc32 is not None and zlib.crc32(part.data) != file.crc32:
        raise BadDataError(
            f"The clip file {file.path} does not have the checksum it was packed with. Run the preprocess "
            "command again, which writes it anew."
        )
