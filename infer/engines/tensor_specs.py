"""What a model takes and gives, whichever engine runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidom.errors import UsageError

__all__ = ["Array", "TensorSpec", "check_arrays"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """A model's input or output; a dimension of an output that only a run can tell is -1.

    The leading axis is the batch. Only a model for AIPP has `pictures_per_sample` on it for each sample.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pictures_per_sample: int | None = field(default=None, compare=False)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor; 0, as ACL reports it, where a dimension is only known once it has run."""
        return 0 if -1 in self.shape else int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def rows(self) -> int:
        """How many samples the leading axis holds; 1 for a scalar."""
        return self.shape[0] // (self.pictures_per_sample or 1) if self.shape else 1

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        pictures = self.pictures_per_sample
        return self.shape[1:] if pictures is None else (pictures, *self.shape[1:])

    @property
    def by_sample(self) -> tuple[int, ...]:
        """The shape of the same elements with samples in front, which is its own but for a model for AIPP."""
        return (self.rows, *self.sample_shape)

    def __str__(self) -> str:
        return f"{self.dtype} of shape {'×'.join(map(str, self.shape)) or '()'}"


def check_arrays(model: Path, specs: Sequence[TensorSpec], arrays: Sequence[Array]) -> None:
    """The arrays are what the inputs of `model` take, one for each, else UsageError names the first that is not."""
    if len(arrays) != len(specs):
        raise UsageError(f"{model} takes {len(specs)} inputs, found {len(arrays)} arrays.")
    for spec, array in zip(specs, arrays, strict=True):
        found = TensorSpec(spec.name, array.shape, array.dtype)
        if found != spec:
            raise UsageError(f"The input {spec.name!r} of {model} takes {spec}, found {found}.")
