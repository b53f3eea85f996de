"""The ONNX Runtime engine: a built model, loaded once and run on arrays, on the CPU or another provider."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from infer.providers import CPU, GRAPH_ASSIGNMENT, check_used, installed_provider, nodes_by_provider
from infer.tensors import Array, TensorSpec
from vidom.errors import BadData, Lacking, UsageError
from vidom.machine import usable_cores

__all__ = ["OnnxRuntimeEngine"]

_SAME_NAME = ["float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"]
_DTYPES = {"float": "float32", "double": "float64", **{name: name for name in _SAME_NAME}}
_RUNTIME_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


class OnnxRuntimeEngine:
    """A model loaded into ONNX Runtime with all graph optimisations, run by `provider`, the CPU's by default.

    `run` is `upload`, `execute` and `download` in a row; they are public so that each can be timed. Tensors stay
    in the host's memory: what another provider copies to its device counts as execution. A symbolic batch axis
    is set to `batch_size`; a model with a fixed batch does not look at it. `threads` defaults to the cores this
    process may use.

    Raises BadData when the file is absent, damaged or not a model ONNX Runtime can run, UsageError when a
    symbolic axis has no size, Lacking for an `.om` and for a provider that is not installed or takes no part.
    """

    name = "onnxruntime"
    version: str = onnxruntime.__version__

    def __init__(
        self,
        model_path: Path | str,
        *,
        batch_size: int | None = None,
        threads: int | None = None,
        provider: str | None = None,
    ) -> None:
        self.path = Path(model_path)
        self.threads = threads or usable_cores()
        self.provider = installed_provider(provider) if provider else CPU
        self._session = _load(self.path, self.threads, self.provider)
        nodes = self._session.get_inputs()
        symbols = {node.shape[0] for node in nodes if node.shape and not _is_fixed(node.shape[0])}
        self.dynamic_batch = bool(symbols)
        if self.dynamic_batch and batch_size is None:
            raise UsageError(
                f"The batch axis of {self.path} is symbolic ({', '.join(sorted(map(repr, symbols)))}), so the "
                "batch size must be given: --dymBatch N."
            )
        sizes = dict.fromkeys(symbols, batch_size) if self.dynamic_batch else {}
        self.inputs = tuple(self._spec(node, sizes) for node in nodes)
        self.outputs = tuple(self._spec(node, sizes) for node in self._session.get_outputs())
        for spec in self.inputs:
            if -1 in spec.shape:
                raise UsageError(
                    f"The input {spec.name!r} of {self.path} has a symbolic axis besides the batch "
                    f"({spec.shape}, -1 where it is unknown). Export the model with fixed sizes."
                )

    @property
    def device(self) -> str:
        """What the summary calls the device, e.g. `CPU (ONNX Runtime)`."""
        return f"{self.provider.removesuffix('ExecutionProvider')} (ONNX Runtime)"

    @property
    def nodes(self) -> dict[str, int]:
        """How many nodes of the graph each provider runs; empty where ONNX Runtime does not tell."""
        return dict(nodes_by_provider(self._session))

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the model's outputs for one array per input, in the model's order.

        Raises UsageError when the arrays are not what the inputs take, BadData when the model fails on them.
        """
        return self.download(self.execute(self.upload(arrays)))

    def upload(self, arrays: Sequence[Array]) -> dict[str, Any]:
        """Return the arrays as contiguous tensors of the runtime; on the CPU they share the arrays' memory."""
        if len(arrays) != len(self.inputs):
            raise UsageError(f"{self.path} takes {len(self.inputs)} inputs, found {len(arrays)} arrays.")
        for spec, array in zip(self.inputs, arrays, strict=True):
            found = TensorSpec(spec.name, array.shape, array.dtype)
            if found != spec:
                raise UsageError(f"The input {spec.name!r} of {self.path} takes {spec}, found {found}.")
        return {
            spec.name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
            for spec, array in zip(self.inputs, arrays, strict=True)
        }

    def execute(self, feeds: dict[str, Any]) -> list[Any]:
        """Return the runtime's output tensors for uploaded inputs."""
        try:
            values: list[Any] = self._session.run_with_ort_values([spec.name for spec in self.outputs], feeds)
        except _RUNTIME_ERRORS as error:
            raise BadData(f"ONNX Runtime fails while it runs {self.path}: {_first_line(error)}") from None
        return values

    def download(self, values: Sequence[Any]) -> list[Array]:
        """Return output tensors as arrays."""
        return [value.numpy() for value in values]

    def _spec(self, node: Any, sizes: dict[Any, Any]) -> TensorSpec:
        kind = node.type.removeprefix("tensor(").removesuffix(")")
        if kind not in _DTYPES:
            raise BadData(
                f"{node.name!r} of {self.path} is a {node.type}; only tensors of numbers are understood here."
            )
        shape = tuple(dim if _is_fixed(dim) else sizes.get(dim, -1) for dim in node.shape)
        return TensorSpec(node.name, shape, np.dtype(_DTYPES[kind]))


def _load(path: Path, threads: int, provider: str) -> Any:
    if path.suffix.lower() == ".om":
        raise Lacking(
            f"{path} is an offline model, which only an Ascend NPU with ais_bench executes. For ONNX Runtime give "
            "the .onnx file that it was built from."
        )
    if not path.is_file():
        raise BadData(f"The model {path} does not exist. Build it first (make export), or check the path.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry(GRAPH_ASSIGNMENT, "1")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[provider], enable_fallback=0)
    except ort_errors.EPFail as error:
        raise Lacking(
            f"{provider} could not start ({_first_line(error)}). Install the driver and libraries that it needs, "
            "or leave --provider out for the CPU."
        ) from None
    except _RUNTIME_ERRORS as error:
        raise BadData(
            f"{path} is not a model that ONNX Runtime {onnxruntime.__version__} can load with {provider} "
            f"({_first_line(error)}). It may have been cut short; export it again."
        ) from None
    check_used(session, provider, path)
    return session


def _is_fixed(dim: Any) -> bool:
    return isinstance(dim, int) and dim > 0


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
