"""What a model takes and returns, whichever engine runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidom.errors import UsageError

__all__ = ["Array", "TensorSpec", "accepted_arrays"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model; an output dimension that is only known after a run is -1.

    The leading axis is the batch. Only a model for AIPP has `frames_per_sample` entries on it for each sample.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    frames_per_sample: int | None = field(default=None, compare=False)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor; 0, as ACL reports it, where a dimension is only known after a run."""
        return 0 if -1 in self.shape else int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def rows(self) -> int:
        """Number of samples on the leading axis; 1 for a scalar."""
        return self.shape[0] // (self.frames_per_sample or 1) if self.shape else 1

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        frames = self.frames_per_sample
        return self.shape[1:] if frames is None else (frames, *self.shape[1:])

    @property
    def by_sample(self) -> tuple[int, ...]:
        """Shape of the same elements with samples in front; differs from `shape` only for a model for AIPP."""
        return (self.rows, *self.sample_shape)

    def __str__(self) -> str:
        return f"{self.dtype} of shape {'×'.join(map(str, self.shape)) or '()'}"


def accepted_arrays(model: Path, specs: Sequence[TensorSpec], arrays: Sequence[Array]) -> list[Array]:
    """Return one array for each input; float32, which all samples are made in, is rounded for an input of float16.

    Raises UsageError, naming the first that does not fit, unless there is one fitting array for each input.
    """
    if len(arrays) != len(specs):
        raise UsageError(f"{model} takes {len(specs)} inputs, found {len(arrays)} arrays.")
    accepted = [
        array.astype(np.float16) if spec.dtype == np.float16 and array.dtype == np.float32 else array
        for spec, array in zip(specs, arrays, strict=True)
    ]
    for spec, array in zip(specs, accepted, strict=True):
        found = TensorSpec(spec.name, array.shape, array.dtype)
        if found != spec:
            raise UsageError(f"The input {spec.name!r} of {model} takes {spec}, found {found}.")
    return accepted
