"""ONNX Runtime on the CPU, with its errors as errors of the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from vidom.errors import BadDataError
from vidom.system.onnx_runtime import onnxruntime, ort_errors

__all__ = ["Session"]

Array = npt.NDArray[Any]

_REJECTIONS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


class Session:
    """A graph, or the file of one, that ONNX Runtime can run on the CPU.

    `threads` are those of one operator, by default all cores; with `optimized` False ONNX Runtime runs the graph as it
    is written. Raises BadDataError when it rejects the graph.
    """

    def __init__(self, model: bytes | Path, *, threads: int | None = None, optimized: bool = True) -> None:
        levels = onnxruntime.GraphOptimizationLevel
        options = onnxruntime.SessionOptions()
        # Without it every weight that an old exporter lists as an input is a warning.
        options.log_severity_level = 3
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
        if threads is None:
            # Threads that spin between operators slow down everything else that the machine is doing.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        else:
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
        try:
            content = str(model) if isinstance(model, Path) else model
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except _REJECTIONS as error:
            raise BadDataError(f"ONNX Runtime rejects the graph: {' '.join(str(error).split())}") from None

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs."""
        return tuple(output.name for output in self._session.get_outputs())

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """Return the outputs, by default all, for these inputs. Raises BadDataError when the graph cannot be run."""
        try:
            return list(self._session.run(outputs, dict(feeds)))
        except _REJECTIONS as error:
            raise BadDataError(f"ONNX Runtime cannot run the graph: {' '.join(str(error).split())}") from None
