"""What an engine is, a model loaded into a runtime of this process and run on arrays; which engines there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

from infer.engines.tensor_specs import Array, TensorSpec
from vidom.errors import BadDataError, UnavailableError, UsageError
from vidom.formats.aipp import read_aipp

__all__ = [
    "LOCAL_ENGINES",
    "PRECISIONS",
    "Engine",
    "LocalEngine",
    "Precision",
    "check_model_file",
    "counted_in_samples",
    "first_line",
    "needed_batch_size",
    "open_engine",
    "refuse_open_axes",
]

LocalEngine = Literal["onnxruntime", "openvino"]
Precision = Literal["f32", "bf16"]
LOCAL_ENGINES: tuple[LocalEngine, ...] = ("onnxruntime", "openvino")
PRECISIONS: tuple[Precision, ...] = ("f32", "bf16")


class Engine(Protocol):
    """A loaded model. `run` is `upload`, `execute` and `download` in a row, which are apart so that each can be timed.

    `version` is the runtime's. A symbolic batch axis (`dynamic_batch`) was set when the model was loaded, so that
    `inputs` are whole; a dimension of `outputs` that only a run can tell is -1.
    """

    name: str
    version: str
    path: Path
    threads: int
    dynamic_batch: bool
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def device(self) -> str:
        """What the summary calls the device."""

    @property
    def facts(self) -> dict[str, Any]:
        """What else, of this engine only, a result depends on."""

    @property
    def clock(self) -> str:
        """What the time that ais_bench calls NPU_compute_time is here, a phrase."""

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the model's outputs for one array per input, in the model's order.

        Raises UsageError when the arrays are not what the inputs take, BadDataError when the model fails on them.
        """

    def upload(self, arrays: Sequence[Array]) -> Any:
        """Return the arrays as the runtime's tensors, which may share the arrays' memory."""

    def execute(self, feeds: Any) -> list[Any]:
        """Return the runtime's output tensors for uploaded inputs; the next execution may overwrite them."""

    def download(self, values: Sequence[Any]) -> list[Array]:
        """Return output tensors as arrays that stay as they are."""


def open_engine(
    model: Path | str,
    *,
    engine: LocalEngine = "onnxruntime",
    batch_size: int | None = None,
    threads: int | None = None,
    provider: str | None = None,
    precision: Precision | None = None,
    shares_cores: bool = False,
) -> Engine:
    """Return the model loaded by `engine`; `provider` is ONNX Runtime's, bfloat16 as `precision` OpenVINO's.

    An engine that `shares_cores` lets them go whenever it waits; OpenVINO's threads always do.

    Raises UsageError for an option of the other engine, and what the engine raises.
    """
    # Each engine needs a package that the other may do without.
    if engine == "openvino":
        if provider is not None:
            raise UsageError(
                f"--provider {provider} is ONNX Runtime's; --engine openvino runs on the CPU. Leave it out."
            )
        from infer.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(
            model, batch_size=batch_size, threads=threads, precision=precision or PRECISIONS[0]
        )
    if precision not in (None, "f32"):
        raise UsageError(
            f"--precision {precision} is for --engine openvino; ONNX Runtime computes in the types that the graph "
            "has. Leave it out, or choose that engine."
        )
    from infer.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(
        model, batch_size=batch_size, threads=threads, provider=provider, shares_cores=shares_cores
    )


def check_model_file(path: Path, runtime: str) -> None:
    """The file is there and no offline model, else BadDataError or UnavailableError says what `runtime` needs."""
    if path.suffix.lower() == ".om":
        raise UnavailableError(
            f"{path} is an offline model, which only an Ascend NPU with ais_bench executes. For {runtime} give "
            "the .onnx file that it was built from."
        )
    if not path.is_file():
        raise BadDataError(
            f"The model {path} does not exist. Build it first (make export), or check the path."
        )


def needed_batch_size(path: Path, batch_size: int | None) -> int:
    """Return the size for a symbolic batch axis; UsageError when none was given."""
    if batch_size is None:
        raise UsageError(
            f"The batch axis of {path} is symbolic, so the batch size must be given: --dymBatch N."
        )
    return batch_size


def counted_in_samples(
    path: Path, inputs: Sequence[TensorSpec], metadata: Mapping[str, str]
) -> tuple[TensorSpec, ...]:
    """Return the inputs, those of a model for AIPP with the pictures of a sample counted, as its metadata tell.

    Raises BadDataError when the metadata are damaged or an input does not hold whole samples.
    """
    aipp = read_aipp(metadata, origin=path)
    if aipp is None:
        return tuple(inputs)
    for spec in inputs:
        if not spec.shape or spec.shape[0] % aipp.frames_per_sample:
            raise BadDataError(
                f"The input {spec.name!r} of {path} is {spec}, but its metadata count {aipp.frames_per_sample} "
                "pictures a sample. Export it again."
            )
    return tuple(replace(spec, pictures_per_sample=aipp.frames_per_sample) for spec in inputs)


def refuse_open_axes(path: Path, inputs: Sequence[TensorSpec]) -> None:
    """Every size of the inputs is known, else UsageError."""
    for spec in inputs:
        if -1 in spec.shape:
            raise UsageError(
                f"The input {spec.name!r} of {path} has a symbolic axis besides the batch ({spec.shape}, -1 where "
                "it is unknown). Export the model with fixed sizes."
            )


def first_line(error: Exception) -> str:
    """Return the first line of a runtime's error, which says most."""
    return str(error).strip().split("\n")[0]
