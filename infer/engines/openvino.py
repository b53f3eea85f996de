"""The OpenVINO engine: a built model, loaded once and run on arrays by the CPU, in float32 or in bfloat16.

OpenVINO is an optional package, imported when an engine is opened.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infer.engines.base import (
    check_model_file,
    counted_in_samples,
    first_line,
    needed_batch_size,
    refuse_symbolic_axes,
)
from infer.engines.engine_options import OpenVinoOptions, Precision
from infer.engines.tensor_specs import Array, TensorSpec, accepted_arrays
from vidom.errors import BadDataError, UnavailableError
from vidom.files import sha256_file
from vidom.formats.aipp import METADATA_KEY
from vidom.system.machine import usable_cores

__all__ = ["OpenVinoEngine"]

_DTYPES = {
    "boolean": "bool",
    **{f"f{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"i{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"u{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}


class OpenVinoEngine:
    """A model compiled by OpenVINO for the CPU, one inference at a time.

    With the precision bf16, whatever the processor can multiply in bfloat16 is multiplied in it; inputs and outputs
    keep their types. A symbolic batch axis is set to `batch_size`, which a model with a fixed batch ignores.

    Raises UnavailableError without the package openvino, for an `.om` and for bf16 on a processor that does not
    support it (OpenVINO would emulate or ignore it), BadDataError when the file is missing, damaged or not a model
    that OpenVINO can run, UsageError when a symbolic axis has no size.
    """

    name = "openvino"

    def __init__(
        self,
        model_path: Path | str,
        options: OpenVinoOptions = OpenVinoOptions(),
        *,
        batch_size: int | None = None,
    ) -> None:
        openvino = _openvino()
        self.version: str = openvino.__version__.split("-")[0]
        self.path = Path(model_path)
        self.threads = options.threads or usable_cores()
        self.precision = options.precision
        core = openvino.Core()
        if self.precision == "bf16":
            _check_bf16(core)
        model = _read(openvino, self.path)
        self.dynamic_batch = _set_batch(openvino, model, self.path, batch_size)
        inputs = tuple(self._spec(port) for port in model.inputs)
        self.outputs = tuple(self._spec(port) for port in model.outputs)
        refuse_symbolic_axes(self.path, inputs)
        self.inputs = counted_in_samples(self.path, inputs, _metadata(model))
        compiled = _compile(core, model, self.path, threads=self.threads, precision=self.precision)
        self._request = compiled.create_infer_request()
        self._tensor = openvino.Tensor

    @property
    def model_sha256(self) -> str:
        """The SHA-256 of the model's file."""
        return sha256_file(self.path)

    @property
    def device(self) -> str:
        """The device as the summary names it, e.g. `CPU (OpenVINO, bf16)`."""
        return f"CPU (OpenVINO, {self.precision})"

    @property
    def facts(self) -> dict[str, Any]:
        """The precision of the arithmetic."""
        return {"precision": self.precision}

    @property
    def clock(self) -> str:
        """What the time called NPU_compute_time is."""
        return "no NPU was used, despite the name NPU_compute_time"

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the model's outputs for one array per input, in the model's order."""
        return self.download(self.execute(self.upload(arrays)))

    def upload(self, arrays: Sequence[Array]) -> list[Any]:
        """Return the arrays as tensors of the runtime, which share the memory of contiguous, writeable ones."""
        return [
            self._tensor(np.require(array, requirements=["C", "W"]), shared_memory=True)
            for array in accepted_arrays(self.path, self.inputs, arrays)
        ]

    def execute(self, feeds: Sequence[Any]) -> list[Any]:
        """Return the runtime's output tensors for uploaded inputs; the next execution overwrites them."""
        try:
            for number, tensor in enumerate(feeds):
                self._request.set_input_tensor(number, tensor)
            self._request.infer()
        except RuntimeError as error:
            raise BadDataError(f"OpenVINO fails while it runs {self.path}: {first_line(error)}") from None
        return [self._request.get_output_tensor(number) for number in range(len(self.outputs))]

    def download(self, values: Sequence[Any]) -> list[Array]:
        """Return output tensors as copies."""
        return [np.array(value.data) for value in values]

    def _spec(self, port: Any) -> TensorSpec:
        name, kind = port.get_any_name(), port.get_element_type().get_type_name()
        if kind not in _DTYPES:
            raise BadDataError(
                f"{name!r} of {self.path} is a {kind}; only numeric tensors are supported here."
            )
        shape = tuple(-1 if dim.is_dynamic else dim.get_length() for dim in port.get_partial_shape())
        return TensorSpec(name, shape, np.dtype(_DTYPES[kind]))


def _openvino() -> Any:
    # No variable turns it off: at its import OpenVINO looks up www.google-analytics.com and writes below HOME. It does
    # without where this package is absent.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
        import openvino.frontend
    except ImportError as error:
        raise UnavailableError(
            f"--engine openvino needs the package openvino, which cannot be imported ({error}). Run: make extras "
            "(or pip install openvino), or use --engine onnxruntime."
        ) from None
    return openvino


def _check_bf16(core: Any) -> None:
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in able:
        raise UnavailableError(
            f"--precision bf16 needs a processor with bfloat16 instructions (AMX or AVX512_BF16); OpenVINO reports "
            f"{', '.join(sorted(able))} on this {core.get_property('CPU', 'FULL_DEVICE_NAME')}. Use --precision f32."
        )


def _read(openvino: Any, path: Path) -> Any:
    """Return the ONNX model; only this format is tried, because OpenVINO would detect formats by content."""
    check_model_file(path, "OpenVINO")
    frontend = openvino.frontend
    failures = (
        frontend.GeneralFailure,
        frontend.InitializationFailure,
        frontend.NotImplementedFailure,
        frontend.OpConversionFailure,
        frontend.OpValidationFailure,
        RuntimeError,
    )
    try:
        reader = frontend.FrontEndManager().load_by_framework("onnx")
        model = reader.convert(reader.load(str(path)))
    except failures as error:
        raise BadDataError(
            f"{path} is not a model that OpenVINO {openvino.__version__} can read ({_reason(error)}). If ONNX Runtime "
            "reads it, use --engine onnxruntime; otherwise it may be truncated: export it again."
        ) from None
    if not model.inputs or not model.outputs:
        raise BadDataError(f"{path} is an ONNX file without inputs or outputs, not a model. Export it again.")
    return model


def _metadata(model: Any) -> dict[str, str]:
    """Return the AIPP entry of the ONNX file's metadata, which OpenVINO keeps as the framework's."""
    place = ["framework", METADATA_KEY]
    return {METADATA_KEY: str(model.get_rt_info(place).value)} if model.has_rt_info(place) else {}


def _reason(error: Exception) -> str:
    """Return the last line of OpenVINO's message; those before it are locations in its source."""
    return str(error).strip().split("\n")[-1].removeprefix("-- ")


def _set_batch(openvino: Any, model: Any, path: Path, batch_size: int | None) -> bool:
    """Set the symbolic batch axis of all inputs; return whether there was one."""
    shapes = {port: list(port.get_partial_shape()) for port in model.inputs}
    symbolic = {port: shape[1:] for port, shape in shapes.items() if shape and shape[0].is_dynamic}
    if not symbolic:
        return False
    size = needed_batch_size(path, batch_size)
    try:
        model.reshape({port: openvino.PartialShape([size, *rest]) for port, rest in symbolic.items()})
    except RuntimeError as error:
        raise BadDataError(f"{path} does not work with a batch of {size}: {_reason(error)}") from None
    return True


def _compile(core: Any, model: Any, path: Path, *, threads: int, precision: Precision) -> Any:
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        # The cores of a virtual machine are threads that its host migrates; a pinned thread would wait for its core.
        "ENABLE_CPU_PINNING": False,
        "ENABLE_HYPER_THREADING": True,
    }
    try:
        compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise BadDataError(
            f"{path} is not a model that OpenVINO can compile for the CPU ({_reason(error)}). Use --engine onnxruntime."
        ) from None
    found = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if found != precision:
        raise UnavailableError(
            f"OpenVINO would compute {path} in {found} instead of {precision}. Use --precision {found}."
        )
    return compiled
