"""Inference by an engine of this process over files, or without any: as ais_bench packs, executes and writes.

A killed run, started again with the same command, continues with the first batch that is not finished and
ends with the same outputs. One batch at a time is in memory.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from infer.batches.inputs import BatchPlan, InputArgument, plan_batches, pure_plan
from infer.batches.journal import RunJournal
from infer.batches.performance import (
    InferenceResult,
    measured,
    own_lines,
    packing_line,
    session_text,
    summary_lines,
)
from infer.batches.reading import BatchReader, PureDataType, ReadBatch, pure_arrays
from infer.batches.running import Execution, output_names, run_batches, warm_up
from infer.engines.base import Engine, LocalEngine, open_engine
from infer.options import Options
from infer.precision_check import PrecisionCheck, check_precision
from vidom.errors import UsageError
from vidom.files import sha256_file
from vidom.formats.engine_outputs import OutputFormat, ResultFile, output_stem, write_summary

__all__ = ["run_in_process"]

_log = logging.getLogger(__name__)


def run_in_process(
    options: Options, name: LocalEngine, *, args: Sequence[str], say: Callable[[str], None]
) -> InferenceResult:
    """Every input file has its outputs in `{output}/{output_dirname}`; the summary lies beside that folder.

    `args` is the command that the summary records, `say` takes the lines of the result. Raises UsageError,
    BadDataError or UnavailableError before anything is run wherever that can be known.
    """
    _check_devices(options)
    engine = _open_engine(options, name)
    say(f"[INFO] load model {options.model} success")
    say(f"[INFO] try get model batchsize:{engine.inputs[0].rows}")
    if options.debug:
        _log.info(session_text(engine))
    plan, read = _plan(engine, options.input, options.pure_data_type)
    how = Execution(outfmt=options.outfmt, loop=options.loop, axis=options.output_batchsize_axis)
    made_with = _made_with(engine)
    journal = None
    if options.output is not None:
        dirname = options.output_dirname or time.strftime("%Y_%m_%d-%H_%M_%S")
        inputs = {"inputs": plan.fingerprint, "data": options.pure_data_type}
        journal = RunJournal(options.output, dirname, {**made_with, **asdict(how), **inputs})
        say(f"[INFO] output path:{journal.prefix}")
    if options.input is not None:
        say(packing_line(plan, engine.inputs[0]))
    warm_up(engine, read, options.warmup_count)
    say(f"[INFO] warm up {options.warmup_count} done")
    records = run_batches(engine, plan, read, journal, how)
    batch_size = options.batchsize or engine.inputs[0].rows
    result = measured(engine, records, plan, journal, loop=options.loop, batch_size=batch_size)
    if options.precision == "bf16":
        result = replace(result, precision_check=_checked(engine, options, plan, read))
    if journal:
        files = _result_files(journal.prefix, plan, len(engine.outputs), options.outfmt)
        _write_summary(journal.summary, files, result, made_with, args)
        journal.finish()
    for line in (*summary_lines(result, everything=options.display_all_summary), *own_lines(result, engine)):
        say(line)
    return result


def _open_engine(options: Options, name: LocalEngine) -> Engine:
    engine = open_engine(
        options.model,
        engine=name,
        batch_size=options.dym_batch or options.batchsize,
        threads=options.threads,
        provider=options.provider,
        precision=options.precision,
    )
    if options.dym_batch and not engine.dynamic_batch:
        raise UsageError(
            f"--dymBatch {options.dym_batch} is for models with a symbolic batch axis; {options.model} has a fixed "
            f"batch of {engine.inputs[0].rows}. Leave the option out."
        )
    return engine


def _check_devices(options: Options) -> None:
    if len(options.devices) > 1:
        raise UsageError(
            f"--device {','.join(map(str, options.devices))} names several devices, but this engine runs in one "
            "process; several are for --engine ascend."
        )
    if options.devices != (0,):
        _log.info(f"--device {options.devices[0]} makes no difference: it numbers NPUs, and none is used.")
    if options.time_limit is not None:
        raise UsageError(
            "--time_limit stops ais_bench, for --engine ascend. A run in this process may be stopped at any time and, "
            "started again, continues."
        )


def _checked(engine: Engine, options: Options, plan: BatchPlan, read: ReadBatch) -> PrecisionCheck:
    _log.info("Computing samples in f32 too, to tell what bf16 changes.")
    reference = open_engine(
        engine.path,
        engine="openvino",
        batch_size=engine.inputs[0].rows,
        threads=engine.threads,
        precision="f32",
    )
    axis = options.output_batchsize_axis
    return check_precision(engine, reference, plan, read, axis=axis, samples=options.checked)


def _plan(engine: Engine, argument: InputArgument | None, kind: PureDataType) -> tuple[BatchPlan, ReadBatch]:
    if argument is None:
        arrays = pure_arrays(engine.inputs, kind)
        return pure_plan(engine.inputs), lambda _number: arrays
    plan = plan_batches(argument, engine.inputs)
    return plan, BatchReader(plan, engine.inputs).read


def _made_with(engine: Engine) -> dict[str, Any]:
    return {
        "engine": engine.name,
        "engine_version": engine.version,
        "device": engine.device,
        **engine.facts,
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
            **(result.precision_check.facts if result.precision_check else {}),
        },
    )
