"""Inference as ais_bench does it, by the engine that fits the model and the machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from infer.batches.in_process import run_in_process
from infer.batches.inputs import InputArgument
from infer.batches.performance import InferenceResult
from infer.batches.reading import PureDataType
from infer.engines.ascend.ais_bench_run import run_ascend
from infer.engines.base import Precision
from infer.engines.choice import choose_engine
from infer.options import EngineName, Options, parse_devices
from infer.precision_check import DEFAULT_SAMPLES
from vidom.formats.engine_outputs import OutputFormat

__all__ = ["infer"]


def infer(
    *,
    model: Path | str,
    input: InputArgument | None = None,
    output: Path | str | None = None,
    output_dirname: str | None = None,
    outfmt: OutputFormat = "BIN",
    loop: int = 1,
    warmup_count: int = 1,
    batchsize: int | None = None,
    dym_batch: int | None = None,
    output_batchsize_axis: int = 0,
    pure_data_type: PureDataType = "zero",
    display_all_summary: bool = False,
    debug: bool = False,
    engine: EngineName = "auto",
    device: str = "0",
    provider: str | None = None,
    precision: Precision | None = None,
    check: int | Literal["all"] = DEFAULT_SAMPLES,
    threads: int | None = None,
    time_limit: float | None = None,
    args: Sequence[str] | None = None,
    say: Callable[[str], None] = print,
) -> InferenceResult:
    """Every input file has its outputs in `{output}/{output_dirname}`; the summary lies beside that folder.

    The options are ais_bench's. Without `input`, zeros or random bytes are run `loop` times as one batch;
    without `output` nothing is written. `dym_batch`, or else `batchsize`, is the size of a symbolic batch
    axis; for a model with a fixed batch `batchsize` changes the throughput figure only.

    `engine` auto takes the NPU when it, ais_bench and an .om are here, else ONNX Runtime. `device` is one NPU or
    several (`0,1`), among which the files are shared out; `provider` an execution provider of ONNX Runtime;
    `time_limit` the seconds after which ais_bench is stopped. `precision` is OpenVINO's; after a run in bf16, `check`
    samples of its input, or all, are computed in f32 too, and what differs is told and stands in the summary. `args`
    is the command that the summary records (default: this process's), `say` takes the lines of the result.

    Raises UsageError, BadDataError or UnavailableError before anything is run wherever that can be known, ExternalToolError
    when ais_bench fails.
    """
    options = Options(
        model=Path(model),
        input=input,
        output=None if output is None else str(output),
        output_dirname=output_dirname,
        outfmt=outfmt,
        loop=loop,
        warmup_count=warmup_count,
        batchsize=batchsize,
        dym_batch=dym_batch,
        output_batchsize_axis=output_batchsize_axis,
        pure_data_type=pure_data_type,
        display_all_summary=display_all_summary,
        debug=debug,
        devices=parse_devices(device),
        threads=threads,
        provider=provider,
        precision=precision,
        checked=None if check == "all" else check,
        time_limit=time_limit,
    )
    options.check()
    choice = choose_engine(options.model, engine)
    say(f"[INFO] engine {choice.engine}: {choice.reason}")
    options = replace(options, model=choice.model)
    if choice.engine == "ascend":
        return run_ascend(options, say=say)
    return run_in_process(options, choice.engine, args=sys.argv if args is None else args, say=say)
