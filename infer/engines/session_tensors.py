"""Inputs and outputs of a session of ONNX Runtime, whichever process has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from infer.engines.base import counted_in_samples, needed_batch_size, refuse_symbolic_axes
from infer.engines.tensor_specs import TensorSpec
from vidom.errors import BadDataError

__all__ = ["Node", "SessionTensors"]

_SAME_NAME = ["float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"]
_DTYPES = {"float": "float32", "double": "float64", **{name: name for name in _SAME_NAME}}


class Node(Protocol):
    """An input or output as ONNX Runtime describes it; a symbolic dimension is a name or None."""

    @property
    def name(self) -> str:
        """The tensor's name."""

    @property
    def type(self) -> str:
        """The type, such as `tensor(float)`."""

    @property
    def shape(self) -> Sequence[Any]:
        """The dimensions."""


@dataclass(frozen=True)
class SessionTensors:
    """What the session takes and returns; `dynamic_batch` states whether a symbolic batch axis was set."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dynamic_batch: bool

    @classmethod
    def of(
        cls,
        path: Path,
        inputs: Sequence[Node],
        outputs: Sequence[Node],
        metadata: Mapping[str, str],
        batch_size: int | None,
    ) -> SessionTensors:
        """Return the tensors of the model `path`; a symbolic batch axis is set to `batch_size`.

        Raises UsageError where a size stays unknown, BadDataError for a type that is not numeric and for damaged
        metadata.
        """
        symbols = {node.shape[0] for node in inputs if node.shape and not _is_fixed(node.shape[0])}
        sizes = dict.fromkeys(symbols, needed_batch_size(path, batch_size)) if symbols else {}
        taken = tuple(_spec(path, node, sizes) for node in inputs)
        refuse_symbolic_axes(path, taken)
        given = tuple(_spec(path, node, sizes) for node in outputs)
        return cls(counted_in_samples(path, taken, metadata), given, bool(symbols))


def _spec(path: Path, node: Node, sizes: Mapping[Any, int]) -> TensorSpec:
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    if kind not in _DTYPES:
        raise BadDataError(
            f"{node.name!r} of {path} is a {node.type}; only numeric tensors are supported here."
        )
    shape = tuple(dim if _is_fixed(dim) else sizes.get(dim, -1) for dim in node.shape)
    return TensorSpec(node.name, shape, np.dtype(_DTYPES[kind]))


def _is_fixed(dim: Any) -> bool:
    return isinstance(dim, int) and dim > 0
