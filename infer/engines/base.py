"""The two kinds of engines, and the checks that engines share.

An array engine loads a model into this process and runs it on arrays; a file engine hands a folder of input files to
an external program. `infer.engines.open` opens either.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from infer.engines.tensor_specs import Array, TensorSpec
from vidom.errors import BadDataError, ExternalToolError, UnavailableError, UsageError
from vidom.formats.aipp import read_aipp
from vidom.formats.onnx_file import read_onnx
from vidom.wording import shown

__all__ = [
    "ArrayEngine",
    "ClipDtype",
    "Engine",
    "FileEngine",
    "FileRun",
    "check_model_file",
    "counted_in_samples",
    "first_line",
    "kept_if_failed",
    "needed_batch_size",
    "refuse_symbolic_axes",
]


ClipDtype = Literal["float32", "uint8", "aipp"]
"""What the clips for a model are; those for AIPP are uint8 with channels last."""


class ArrayEngine(Protocol):
    """A model loaded into this process.

    `run` is `upload`, `execute` and `download` in sequence; they are separate so that each can be timed. `version` is
    the runtime's. A symbolic batch axis (`dynamic_batch`) was set when the model was loaded, so that all dimensions of
    `inputs` are known; a dimension of `outputs` that is only known after a run is -1.
    """

    name: str
    version: str
    path: Path
    threads: int
    dynamic_batch: bool
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def model_sha256(self) -> str:
        """The SHA-256 of the model's file, or of random weights."""

    @property
    def device(self) -> str:
        """The device, as the summary names it."""

    @property
    def facts(self) -> dict[str, Any]:
        """Whatever else of this engine a result depends on."""

    @property
    def clock(self) -> str:
        """What the time that ais_bench calls NPU_compute_time is here, a phrase."""

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the model's outputs for one array per input, in the model's order.

        Raises UsageError when the arrays do not fit the inputs, BadDataError when the model fails on them.
        """

    def upload(self, arrays: Sequence[Array]) -> Any:
        """Return the arrays as the runtime's tensors, which may share the arrays' memory."""

    def execute(self, feeds: Any) -> list[Any]:
        """Return the runtime's output tensors for uploaded inputs; the next execution may overwrite them."""

    def download(self, values: Sequence[Any]) -> list[Array]:
        """Return output tensors as arrays that no later execution changes."""


@dataclass(frozen=True)
class FileRun:
    """A finished run over files: the summary that leads from inputs to outputs, and the seconds it took."""

    summary: Path
    seconds: float


class FileEngine(ABC):
    """A model that an external program runs on files; nothing of it is loaded into this process.

    `batch_size` is the one given, None where the model has a fixed batch that nothing needs to know.
    """

    name: str
    path: Path
    batch_size: int | None

    @property
    @abstractmethod
    def version(self) -> str:
        """Versions of the external program and of what it runs on, as installed here."""

    @property
    @abstractmethod
    def input_dtype(self) -> ClipDtype:
        """What the clips of its input are, as far as this is recorded; float32 where it is not."""

    @abstractmethod
    def infer_files(self, files: Path, output: Path) -> FileRun:
        """Run the model on all files of a folder; outputs are .npy files below `output`.

        Raises UsageError, BadDataError or UnavailableError before anything is started wherever that can be known,
        ExternalToolError when the program fails or its results are incomplete.
        """


Engine = ArrayEngine | FileEngine


@contextmanager
def kept_if_failed(folder: Path) -> Iterator[None]:
    """Remove the folder when the block ends, unless an external program failed in it: its files then say why."""
    with ExitStack() as leaving:
        leaving.callback(shutil.rmtree, folder)
        try:
            yield
        except ExternalToolError:
            leaving.pop_all()
            raise


def check_model_file(path: Path, runtime: str) -> None:
    """Raise UnavailableError for an offline model, which `runtime` cannot run, BadDataError for no file.

    BadDataError as well for an ONNX file that would take a runtime without end or without bounds.
    """
    if path.suffix.lower() == ".om":
        raise UnavailableError(
            f"{path} is an offline model, which only an Ascend NPU with ais_bench executes. For {runtime} give "
            "the .onnx file that it was built from."
        )
    if not path.is_file():
        raise BadDataError(
            f"The model {path} does not exist. Build it first (make export), or check the path."
        )
    if path.suffix.lower() != ".ort":
        read_onnx(path)


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
    """Return the inputs; those of a model for AIPP with the `frames_per_sample` that its metadata state.

    Raises BadDataError when the metadata are damaged or an input does not hold complete samples.
    """
    aipp = read_aipp(metadata, origin=path)
    if aipp is None:
        return tuple(inputs)
    for spec in inputs:
        if not spec.shape or spec.shape[0] % aipp.frames_per_sample:
            raise BadDataError(
                f"The input {spec.name!r} of {path} is {spec}, but its metadata state {aipp.frames_per_sample} "
                "frames per sample. Export it again."
            )
    return tuple(replace(spec, frames_per_sample=aipp.frames_per_sample) for spec in inputs)


def refuse_symbolic_axes(path: Path, inputs: Sequence[TensorSpec]) -> None:
    """Raise UsageError where a size of an input is unknown."""
    for spec in inputs:
        if -1 in spec.shape:
            raise UsageError(
                f"The input {spec.name!r} of {path} has a symbolic axis other than the batch ({spec.shape}, -1 where "
                "it is unknown). Set its sizes, as in export/modify_onnx.py -m1 OLD -m2 NEW --input_shape "
                f"{shown(spec.name)}:1,8,3,224,224."
            )


def first_line(error: Exception) -> str:
    """Return the first line of a runtime's error, the most informative one."""
    return str(error).strip().split("\n")[0]
