"""The CANN engine: an ONNX model on an Ascend NPU by onnxruntime-cann, without ATC and without ais_bench."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from infer.engines.base import check_model_file
from infer.engines.cann.session_process import RemoteError, SessionProcess
from infer.engines.engine_options import CannOptions
from infer.engines.providers import UNKNOWN_OPTION, check_used, load_failure, provider_options, run_failure
from infer.engines.session_tensors import SessionTensors
from infer.engines.tensor_specs import Array, accepted_arrays
from vidom.errors import UnavailableError, UserError
from vidom.files import sha256_file
from vidom.system.cann_onnx_runtime import PROVIDER, probe_cann_onnx_runtime
from vidom.system.machine import usable_cores

__all__ = ["CannEngine"]


class CannEngine:
    """A model loaded into onnxruntime-cann in an interpreter of its own, compiled and run once when it is opened.

    A symbolic batch axis is set to `batch_size`. Copies to the device count as execution, copies between the processes
    do not.

    Raises UnavailableError where onnxruntime-cann, CANN or the NPU is missing, BadDataError for a model that ONNX
    Runtime rejects, UsageError when a symbolic axis has no size, ExternalToolError when the NPU or the process fails.
    """

    name = "cann"

    def __init__(
        self, model_path: Path | str, options: CannOptions, *, batch_size: int | None = None
    ) -> None:
        self.path = Path(model_path)
        self.threads = options.threads or usable_cores()
        self._options = options
        check_model_file(self.path, "onnxruntime-cann")
        self._process = SessionProcess()
        described = self._open()
        self.version = str(described["version"])
        self._nodes: dict[str, int] = described["nodes"]
        check_used(described["providers"], self._nodes, PROVIDER, self.path)
        inputs, outputs = (
            [SimpleNamespace(name=name, type=kind, shape=shape) for name, kind, shape in described[side]]
            for side in ("inputs", "outputs")
        )
        tensors = SessionTensors.of(self.path, inputs, outputs, described["metadata"], batch_size)
        self.inputs, self.outputs, self.dynamic_batch = tensors.inputs, tensors.outputs, tensors.dynamic_batch
        # CANN compiles the graph in the first run, which may take minutes and belongs to loading.
        self.run([np.zeros(spec.shape, spec.dtype) for spec in self.inputs])

    @property
    def model_sha256(self) -> str:
        """The SHA-256 of the model's file."""
        return sha256_file(self.path)

    @property
    def device(self) -> str:
        """The device as the summary names it, e.g. `CANN 0 (ONNX Runtime)`."""
        return f"CANN {self._options.device} (ONNX Runtime)"

    @property
    def facts(self) -> dict[str, Any]:
        """How many nodes of the graph each provider runs, and the arithmetic asked of CANN."""
        return {
            "providers": self._nodes or {PROVIDER: None},
            "precision_mode": self._options.precision_mode,
        }

    @property
    def clock(self) -> str:
        """What the time called NPU_compute_time is."""
        return f"NPU_compute_time is the time of {PROVIDER}, copies to its device included"

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the model's outputs for one array per input, in the model's order."""
        self.upload(arrays)
        return self.download(self.execute(None))

    def upload(self, arrays: Sequence[Array]) -> None:
        """Copy the arrays to the other process, which keeps the last ones."""
        self._call("upload", arrays=accepted_arrays(self.path, self.inputs, arrays))

    def execute(self, feeds: None) -> list[Any]:
        """Run the model on the uploaded arrays; its outputs stay in the other process."""
        self._call("execute")
        return []

    def download(self, values: Sequence[Any]) -> list[Array]:
        """Return the outputs of the last execution."""
        found: list[Array] = self._call("download")
        return found

    def _open(self) -> dict[str, Any]:
        options = provider_options(PROVIDER, self._options.device)
        if self._options.precision_mode:
            options["precision_mode"] = self._options.precision_mode
        try:
            described: dict[str, Any] = self._process.call(
                "open", str(self.path.resolve()), PROVIDER, options, self.threads
            )
        except RemoteError as error:
            raise self._load_failure(error) from None
        return described

    def _load_failure(self, error: RemoteError) -> UserError | MemoryError:
        found = probe_cann_onnx_runtime()
        failure = load_failure(error.kind, str(error), PROVIDER, version=str(found.version), path=self.path)
        if not isinstance(failure, UnavailableError) or UNKNOWN_OPTION in str(error) or not found.problems:
            return failure
        return UnavailableError(
            f"--engine cann needs onnxruntime-cann and CANN, and {PROVIDER} could not start in {found.interpreter}. "
            f"Run: {'; then '.join(found.problems)}. Or compute on the CPU: --engine onnxruntime."
        )

    def _call(self, method: str, *, arrays: Sequence[Array] = ()) -> Any:
        try:
            return self._process.call(method, arrays=arrays)
        except RemoteError as error:
            raise run_failure(PROVIDER, self.path, str(error)) from None
