"""The options of `python -m infer`: ais_bench's, and the engine's."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from infer.batches.inputs import InputArgument
from infer.batches.reading import PURE_DATA_TYPES, PureDataType
from infer.engines.engine_request import EngineRequest, engine_option
from infer.precision_check import DEFAULT_SAMPLES
from vidom.errors import UsageError
from vidom.formats.engine_outputs import OUTPUT_FORMATS, OutputFormat
from vidom.formats.recipe import Recipe, recipe_option
from vidom.options import option

__all__ = ["InferOptions"]

RunMode = Literal["array", "files", "tensor", "full"]
_YES = ("yes", "true", "t", "y", "1")
_NO = ("no", "false", "f", "n", "0")


def _boolean(text: str) -> bool:
    if text.lower() not in _YES + _NO:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(_YES + _NO)}, found {text!r}")
    return text.lower() in _YES


def _samples(text: str) -> int | Literal["all"]:
    if text == "all":
        return "all"
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected a number or all, found {text!r}")
    return int(text)


def _batch(text: str) -> int | None:
    try:
        return int(text) or None
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, found {text!r}") from None


@dataclass(frozen=True, kw_only=True)
class InferOptions:
    """Run a model on input files or, without any, as a pure performance loop.

    The options are ais_bench's. `dym_batch`, or else `batchsize`, is the size of a symbolic batch axis; for a model
    with a fixed batch `batchsize` changes the throughput figure only. Raises UsageError for a number out of its range,
    an unknown choice, and a run folder outside of `output`.
    """

    model: Path | None = option(
        "the .onnx file, or for the NPU the .om; none for --engine torch", "-m", default=None
    )
    recipe: Recipe | None = recipe_option(required=False)
    engine: EngineRequest = engine_option()
    input: InputArgument | None = option(
        "folders of .bin/.npy files, or files, separated by commas: one entry per model input "
        "(default: the performance loop)",
        "-i",
        default=None,
        parse=str,
    )
    output: Path | str | None = option(
        "folder for the results (default: nothing is written)", "-o", default=None, parse=str
    )
    output_dirname: str | None = option("the run's folder in --output (default: the time)", default=None)
    outfmt: OutputFormat = option("format of the output files", default="BIN")
    loop: int = option("how often each batch is executed", "-l", default=1)
    warmup_count: int = option("executions before time is measured", default=1)
    batchsize: int | None = option(
        "batch in the throughput figure (default: the model's)", "--batch_size", default=None
    )
    dym_batch: int | None = option(
        "size of a symbolic batch axis; 0 for none", "--dymBatch", default=None, parse=_batch
    )
    output_batchsize_axis: int = option("axis along which outputs are split into files", default=0)
    run_mode: RunMode = option("accepted as ais_bench does; all modes give the same results", default="array")
    pure_data_type: PureDataType = option("data of the performance loop", default="zero")
    check: int | Literal["all"] = option(
        "samples that a run in bf16 also computes in f32, to report the differences",
        default=DEFAULT_SAMPLES,
        metavar="N|all",
        parse=_samples,
    )
    debug: bool = option(
        "log the model's inputs and outputs", default=False, metavar="yes|no", parse=_boolean
    )
    display_all_summary: bool = option(
        "print H2D and D2H times too", default=False, metavar="yes|no", parse=_boolean
    )

    def __post_init__(self) -> None:
        if self.input == "":
            raise UsageError(
                "--input is empty; name folders or files, or leave it out for the performance loop."
            )
        self._check_counts()
        for name, word, choices in (
            ("outfmt", self.outfmt, OUTPUT_FORMATS),
            ("pure_data_type", self.pure_data_type, PURE_DATA_TYPES),
        ):
            if word not in choices:
                raise UsageError(f"--{name} must be one of {', '.join(choices)}, found {word!r}.")
        self._check_folder()

    @property
    def chosen_model(self) -> Path:
        """The model, which there is once `choose_engine` has returned."""
        if self.model is None:
            raise ValueError("no engine was chosen for these options")
        return self.model

    @property
    def given_batch(self) -> int | None:
        """The batch size for a symbolic axis."""
        return self.dym_batch or self.batchsize

    def _check_counts(self) -> None:
        for name, value, least in (
            ("loop", self.loop, 1),
            ("warmup_count", self.warmup_count, 0),
            ("output_batchsize_axis", self.output_batchsize_axis, 0),
            ("batchsize", self.batchsize, 1),
            ("dymBatch", self.dym_batch, 1),
            ("check", self.check, 1),
        ):
            if isinstance(value, int) and value < least:
                raise UsageError(f"--{name} must be at least {least}, found {value}.")

    def _check_folder(self) -> None:
        if self.output_dirname is None:
            return
        if self.output is None:
            raise UsageError("--output_dirname cannot be used alone: give --output, its parent folder.")
        name = PurePath(self.output_dirname)
        if name.is_absolute() or ".." in name.parts or not name.name:
            raise UsageError(
                f"--output_dirname {self.output_dirname!r} must be a folder within --output, neither an absolute "
                "path nor one with `..`."
            )
