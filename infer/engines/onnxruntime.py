"""The ONNX Runtime engine: a built model, loaded once and run on arrays, on the CPU or by another provider."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infer.engines.base import check_model_file, first_line
from infer.engines.engine_options import OnnxRuntimeOptions
from infer.engines.providers import (
    CPU,
    GRAPH_ASSIGNMENT,
    check_used,
    installed_provider,
    load_failure,
    nodes_by_provider,
    provider_options,
    run_failure,
)
from infer.engines.session_tensors import SessionTensors
from infer.engines.tensor_specs import Array, accepted_arrays
from vidom.files import sha256_file
from vidom.system.machine import usable_cores
from vidom.system.onnx_runtime import onnxruntime, ort_errors

__all__ = ["OnnxRuntimeEngine"]

_RUNTIME_ERRORS = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


class OnnxRuntimeEngine:
    """A model loaded into ONNX Runtime with all graph optimizations.

    Tensors stay in the host's memory: what a provider copies to its device counts as execution. A symbolic batch axis
    is set to `batch_size`, which a model with a fixed batch ignores. Threads spin while they wait for work, unless the
    engine `shares_cores` with other processes.

    Raises BadDataError when the file is missing, damaged or not a model ONNX Runtime can run, UsageError when a
    symbolic axis has no size, UnavailableError for an `.om` and for a provider that is not installed or not used,
    ExternalToolError when a provider other than the CPU's fails during a run.
    """

    name = "onnxruntime"
    version: str = onnxruntime.__version__

    def __init__(
        self,
        model_path: Path | str,
        options: OnnxRuntimeOptions = OnnxRuntimeOptions(),
        *,
        batch_size: int | None = None,
        shares_cores: bool = False,
    ) -> None:
        self.path = Path(model_path)
        self.threads = options.threads or usable_cores()
        self.provider = CPU
        if options.provider:
            self.provider = installed_provider(options.provider, onnxruntime.get_available_providers())
        self._device_number = options.device
        chosen = (self.provider, provider_options(self.provider, options.device))
        self._session = _load(self.path, self.threads, chosen, spin=not shares_cores)
        tensors = SessionTensors.of(
            self.path,
            self._session.get_inputs(),
            self._session.get_outputs(),
            self._session.get_modelmeta().custom_metadata_map,
            batch_size,
        )
        self.inputs, self.outputs, self.dynamic_batch = tensors.inputs, tensors.outputs, tensors.dynamic_batch

    @property
    def model_sha256(self) -> str:
        """The SHA-256 of the model's file."""
        return sha256_file(self.path)

    @property
    def device(self) -> str:
        """The device as the summary names it, e.g. `CPU (ONNX Runtime)` or `CUDA 1 (ONNX Runtime)`."""
        number = f" {self._device_number}" if self._device_number and self.provider != CPU else ""
        return f"{self.provider.removesuffix('ExecutionProvider')}{number} (ONNX Runtime)"

    @property
    def facts(self) -> dict[str, Any]:
        """How many nodes of the graph each provider runs, None where ONNX Runtime does not report it."""
        return {"providers": dict(nodes_by_provider(self._session)) or {self.provider: None}}

    @property
    def clock(self) -> str:
        """What the time called NPU_compute_time is."""
        if self.provider == CPU:
            return "no NPU was used, despite the name NPU_compute_time"
        return f"NPU_compute_time is the time of {self.provider}, copies to its device included"

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the model's outputs for one array per input, in the model's order."""
        return self.download(self.execute(self.upload(arrays)))

    def upload(self, arrays: Sequence[Array]) -> dict[str, Any]:
        """Return the arrays as contiguous tensors of the runtime; on the CPU they share the arrays' memory."""
        return {
            spec.name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
            for spec, array in zip(self.inputs, accepted_arrays(self.path, self.inputs, arrays), strict=True)
        }

    def execute(self, feeds: dict[str, Any]) -> list[Any]:
        """Return the runtime's output tensors for uploaded inputs."""
        try:
            values: list[Any] = self._session.run_with_ort_values([spec.name for spec in self.outputs], feeds)
        except _errors(self.provider) as error:
            raise run_failure(self.provider, self.path, first_line(error)) from None
        return values

    def download(self, values: Sequence[Any]) -> list[Array]:
        """Return output tensors as arrays."""
        return [value.numpy() for value in values]


def _errors(provider: str) -> tuple[type[Exception], ...]:
    # A plain RuntimeError is raised where the libraries of some providers are absent; the CPU's is about this process.
    return _RUNTIME_ERRORS if provider == CPU else (*_RUNTIME_ERRORS, RuntimeError)


def _load(path: Path, threads: int, chosen: tuple[str, dict[str, str]], *, spin: bool) -> Any:
    check_model_file(path, "ONNX Runtime")
    provider, _ = chosen
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # its errors are raised as well
    options.add_session_config_entry(GRAPH_ASSIGNMENT, "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[chosen], enable_fallback=0)
    except _errors(provider) as error:
        kind, reason = type(error).__name__, first_line(error)
        raise load_failure(kind, reason, provider, version=onnxruntime.__version__, path=path) from None
    check_used(session.get_providers(), nodes_by_provider(session), provider, path)
    return session
