"""Inference as ais_bench does it, by the engine that fits the model and the machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from infer.choice import choose_engine
from infer.inputs import InputArgument
from infer.options import EngineName, Options, parse_devices
from infer.performance import InferenceResult
from infer.reading import PureDataType
from vidom.results import OutputFormat

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
    `time_limit` the seconds after which ais_bench is stopped. `args` is the command that the summary records
    (default: this process's), `say` takes the lines of the result.

    Raises UsageError, BadData or Lacking before anything is run wherever that can be known, OutsideToolFailed
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
        time_limit=time_limit,
    )
    options.check()
    choice = choose_engine(options.model, engine)
    say(f"[INFO] engine {choice.engine}: {choice.reason}")
    options = replace(options, model=choice.model)
    # Each engine needs what the other may do without: onnxruntime here, an NPU there.
    if choice.engine == "ascend":
        from infer.on_ascend import run_ascend

        return run_ascend(options, say=say)
    from infer.on_onnxruntime import run_onnxruntime

    return run_onnxruntime(options, args=sys.argv if args is None else args, say=say)
