"""What may be asked of a run: ais_bench's options, checked before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from infer.batches.inputs import InputArgument
from infer.batches.reading import PURE_DATA_TYPES, PureDataType
from infer.engines.base import PRECISIONS, Precision
from infer.precision_check import DEFAULT_SAMPLES
from vidom.errors import UsageError
from vidom.formats.engine_outputs import OUTPUT_FORMATS, OutputFormat

__all__ = ["ENGINES", "EngineName", "Options", "parse_devices"]

EngineName = Literal["auto", "onnxruntime", "openvino", "ascend"]
ENGINES: tuple[EngineName, ...] = ("auto", "onnxruntime", "openvino", "ascend")
LARGEST_DEVICE = 255
_LEAST = {
    "loop": 1,
    "warmup_count": 0,
    "output_batchsize_axis": 0,
    "batchsize": 1,
    "dymBatch": 1,
    "threads": 1,
    "check": 1,
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """One run as it was asked for; the fields are ais_bench's options, those of one engine only among them.

    `threads` are those of an engine in this process, `provider` is ONNX Runtime's, `precision` OpenVINO's; of a run
    in bf16 `checked` samples, None for all, are computed in float32 too; `time_limit` (in s) is for ais_bench.
    """

    model: Path
    input: InputArgument | None = None
    output: str | None = None
    output_dirname: str | None = None
    outfmt: OutputFormat = "BIN"
    loop: int = 1
    warmup_count: int = 1
    batchsize: int | None = None
    dym_batch: int | None = None
    output_batchsize_axis: int = 0
    pure_data_type: PureDataType = "zero"
    display_all_summary: bool = False
    debug: bool = False
    devices: tuple[int, ...] = (0,)
    threads: int | None = None
    provider: str | None = None
    precision: Precision | None = None
    checked: int | None = DEFAULT_SAMPLES
    time_limit: float | None = None

    def check(self) -> None:
        """Every number is in its range, every word one of its choices, and the run's folder within `output`.

        Raises UsageError that names the option.
        """
        self._check_counts()
        for name, word, choices in (
            ("outfmt", self.outfmt, OUTPUT_FORMATS),
            ("pure_data_type", self.pure_data_type, PURE_DATA_TYPES),
            ("precision", self.precision or PRECISIONS[0], PRECISIONS),
        ):
            if word not in choices:
                raise UsageError(f"--{name} must be one of {', '.join(choices)}, found {word!r}.")
        self._check_folder()

    def _check_counts(self) -> None:
        counts = {
            "loop": self.loop,
            "warmup_count": self.warmup_count,
            "output_batchsize_axis": self.output_batchsize_axis,
            "batchsize": self.batchsize,
            "dymBatch": self.dym_batch,
            "threads": self.threads,
            "check": self.checked,
        }
        for name, value in counts.items():
            if value is not None and value < _LEAST[name]:
                raise UsageError(f"--{name} must be at least {_LEAST[name]}, found {value}.")
        if self.time_limit is not None and not self.time_limit > 0:
            raise UsageError(
                f"--time_limit takes the seconds after which ais_bench is stopped, found {self.time_limit}."
            )

    def _check_folder(self) -> None:
        if self.output_dirname is None:
            return
        if self.output is None:
            raise UsageError(
                "--output_dirname can not be used alone: give --output, the folder to make it in."
            )
        name = PurePath(self.output_dirname)
        if name.is_absolute() or ".." in name.parts or not name.name:
            raise UsageError(
                f"--output_dirname {self.output_dirname!r} must be a folder within --output, neither an absolute "
                "path nor one with `..`."
            )


def parse_devices(text: str) -> tuple[int, ...]:
    """Return the device numbers of `0` or `0,1`; UsageError for anything but different numbers up to 255."""
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and int(part) <= LARGEST_DEVICE for part in parts):
        raise UsageError(
            f"--device must be a number from 0 to {LARGEST_DEVICE}, or several with commas, found {text!r}."
        )
    devices = tuple(int(part) for part in parts)
    if len(set(devices)) != len(devices):
        raise UsageError(f"--device {text} names a device twice; each runs one part of the input.")
    return devices
