"""Inference over files, or without any: packing, execution, outputs and summary, as ais_bench does it.

A killed run, started again with the same command, continues with the first batch that is not finished and
ends with the same outputs. One batch at a time is in memory.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infer.engine import OnnxRuntimeEngine
from infer.inputs import BatchPlan, InputArgument, plan_batches, pure_plan
from infer.journal import RunJournal
from infer.options import check_choices, check_counts, check_folder
from infer.performance import InferenceResult, measured, own_lines, packing_line, session_text, summary_lines
from infer.reading import BatchReader, PureDataType, ReadBatch, pure_arrays
from infer.running import Execution, output_names, run_batches, warm_up
from vidom.command import log
from vidom.errors import UsageError
from vidom.files import sha256_file
from vidom.results import OutputFormat, ResultFile, output_stem, write_summary

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
    threads: int | None = None,
    args: Sequence[str] | None = None,
    say: Callable[[str], None] = print,
) -> InferenceResult:
    """Every input file has its outputs in `{output}/{output_dirname}`; the summary lies beside that folder.

    The options are ais_bench's. Without `input`, zeros or random bytes are run `loop` times as one batch;
    without `output` nothing is written. `dym_batch`, or else `batchsize`, is the size of a symbolic batch
    axis; for a model with a fixed batch `batchsize` changes the throughput figure only. `args` is the command
    that the summary records (default: this process's), `say` takes the lines of the result.

    Raises UsageError, BadData or Lacking before anything is run wherever that can be known.
    """
    check_counts(
        loop=loop,
        warmup_count=warmup_count,
        output_batchsize_axis=output_batchsize_axis,
        batchsize=batchsize,
        dymBatch=dym_batch,
        threads=threads,
    )
    check_choices(outfmt=outfmt, pure_data_type=pure_data_type)
    check_folder(output=output, output_dirname=output_dirname)
    engine = _open_engine(model, dym_batch, batchsize, threads)
    say(f"[INFO] load model {model} success")
    say(f"[INFO] try get model batchsize:{engine.inputs[0].rows}")
    if debug:
        log(session_text(engine))
    plan, read = _plan(engine, input, pure_data_type)
    how = Execution(outfmt=outfmt, loop=loop, axis=output_batchsize_axis)
    made_with = _made_with(engine)
    journal = None
    if output is not None:
        dirname = output_dirname or time.strftime("%Y_%m_%d-%H_%M_%S")
        inputs = {"inputs": plan.fingerprint, "data": pure_data_type}
        journal = RunJournal(str(output), dirname, {**made_with, **asdict(how), **inputs})
        say(f"[INFO] output path:{journal.prefix}")
    if input is not None:
        say(packing_line(plan, engine.inputs[0]))
    warm_up(engine, read, warmup_count)
    say(f"[INFO] warm up {warmup_count} done")
    records = run_batches(engine, plan, read, journal, how)
    result = measured(records, plan, journal, loop=loop, batch_size=batchsize or engine.inputs[0].rows)
    if journal:
        files = _result_files(journal.prefix, plan, len(engine.outputs), outfmt)
        _write_summary(journal.summary, files, result, made_with, sys.argv if args is None else args)
        journal.finish()
    for line in (*summary_lines(result, everything=display_all_summary), *own_lines(result, engine)):
        say(line)
    return result


def _open_engine(
    model: Path | str, dym_batch: int | None, batchsize: int | None, threads: int | None
) -> OnnxRuntimeEngine:
    engine = OnnxRuntimeEngine(model, batch_size=dym_batch or batchsize, threads=threads)
    if dym_batch and not engine.dynamic_batch:
        raise UsageError(
            f"--dymBatch {dym_batch} is for models with a symbolic batch axis; {model} has a fixed batch of "
            f"{engine.inputs[0].rows}. Leave the option out."
        )
    return engine


def _plan(
    engine: OnnxRuntimeEngine, argument: InputArgument | None, kind: PureDataType
) -> tuple[BatchPlan, ReadBatch]:
    if argument is None:
        arrays = pure_arrays(engine.inputs, kind)
        return pure_plan(engine.inputs), lambda _number: arrays
    plan = plan_batches(argument, engine.inputs)
    return plan, BatchReader(plan, engine.inputs).read


def _made_with(engine: OnnxRuntimeEngine) -> dict[str, Any]:
    return {
        "engine": engine.name,
        "engine_version": engine.version,
        "device": engine.device,
        "threads": engine.threads,
        "batch_size": engine.inputs[0].rows,
        "model_sha256": sha256_file(engine.path),
    }


def _result_files(prefix: str, plan: BatchPlan, outputs: int, outfmt: OutputFormat) -> list[ResultFile]:
    return [
        ResultFile(
            key=str(number),
            infiles=tuple(file.path for file in entry),
            outfiles=tuple(
                f"{prefix}/{name}" for name in output_names(output_stem(entry[0].path), outputs, outfmt)
            ),
        )
        for number, entry in enumerate(plan.entries)
    ]


def _write_summary(
    path: Path,
    files: Sequence[ResultFile],
    result: InferenceResult,
    made_with: Mapping[str, Any],
    args: Sequence[str],
) -> None:
    write_summary(
        path,
        files=files,
        args=args,
        compute_ms=result.compute_ms,
        h2d_ms=result.h2d_ms,
        d2h_ms=result.d2h_ms,
        batch_size=result.batch_size,
        pid=os.getpid(),
        extra={
            **made_with,
            "samples": result.samples,
            "padded_rows": result.padded_rows,
            "end_to_end_seconds": result.seconds,
            "samples_per_second": result.samples_per_second,
            "resumed": result.resumed,
        },
    )
