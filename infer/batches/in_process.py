"""Inference by an array engine over files, or without any: packed, executed and written as ais_bench does.

A killed run resumes, when it is restarted with the same command, at the first unfinished batch and ends with the same
outputs. One batch at a time is in memory.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from infer.batches.batch_plan import BatchPlan, pure_plan
from infer.batches.inputs import fed_specs, plan_batches
from infer.batches.journal import RunJournal
from infer.batches.performance import (
    InferenceResult,
    measured,
    own_lines,
    packing_line,
    session_text,
    summary_lines,
)
from infer.batches.reading import BatchReader, ReadBatch, pure_arrays
from infer.batches.running import Execution, output_names, run_batches, warm_up
from infer.engines.base import ArrayEngine
from infer.engines.engine_options import float32_reference
from infer.engines.open import ArrayEngineOptions, open_engine
from infer.infer_options import InferOptions
from infer.precision_check import PrecisionCheck, check_precision
from vidom.errors import UsageError
from vidom.formats.engine_outputs import OutputFormat, ResultFile, output_stem, write_summary

__all__ = ["run_in_process"]

_log = logging.getLogger(__name__)


def run_in_process(
    options: InferOptions, how: ArrayEngineOptions, *, args: Sequence[str], say: Callable[[str], None]
) -> InferenceResult:
    """Write the outputs of every input file to `{output}/{output_dirname}`, the summary next to that folder.

    The engine is opened as `how` says; the caller has locked the folder. `args` is the command that the summary
    records, `say` takes the lines of the result. Raises UsageError, BadDataError or UnavailableError before anything is
    run wherever that can be known.
    """
    engine = _opened(options, how)
    say(f"[INFO] load model {options.model} success")
    say(f"[INFO] try get model batchsize:{engine.inputs[0].rows}")
    if options.debug:
        _log.info(session_text(engine))
    plan, read = _plan(engine, options)
    execution = Execution(outfmt=options.outfmt, loop=options.loop, axis=options.output_batchsize_axis)
    made_with = _made_with(engine)
    journal = None
    if options.output is not None:
        inputs = {"inputs": plan.fingerprint, "data": options.pure_data_type}
        fingerprint = {**made_with, **asdict(execution), **inputs}
        journal = RunJournal(str(options.output), str(options.output_dirname), fingerprint)
        say(f"[INFO] output path:{journal.prefix}")
    if options.input is not None:
        say(packing_line(plan, engine.inputs[0]))
    warm_up(engine, read, options.warmup_count)
    say(f"[INFO] warm up {options.warmup_count} done")
    records = run_batches(engine, plan, read, journal, execution)
    batch_size = options.batchsize or engine.inputs[0].rows
    result = measured(engine, records, plan, journal, loop=options.loop, batch_size=batch_size)
    if reference := float32_reference(how):
        exact = _opened(options, reference)
        result = replace(result, precision_check=_checked(engine, exact, options, plan, read))
    if journal:
        files = _result_files(journal.prefix, plan, len(engine.outputs), options.outfmt)
        journal.flush(name for record in records for name, _ in record.outputs)
        _write_summary(journal.summary, files, result, made_with, args)
        journal.finish()
    for line in (*summary_lines(result, everything=options.display_all_summary), *own_lines(result, engine)):
        say(line)
    return result


def _opened(options: InferOptions, how: ArrayEngineOptions) -> ArrayEngine:
    engine = open_engine(options.chosen_model, how, batch_size=options.given_batch)
    if options.dym_batch and not engine.dynamic_batch:
        raise UsageError(
            f"--dymBatch {options.dym_batch} is for models with a symbolic batch axis; {options.model} has a fixed "
            f"batch of {engine.inputs[0].rows}. Leave the option out."
        )
    return engine


def _checked(
    engine: ArrayEngine, reference: ArrayEngine, options: InferOptions, plan: BatchPlan, read: ReadBatch
) -> PrecisionCheck:
    _log.info("Computing samples in f32 too, to report what bf16 changes.")
    axis, samples = options.output_batchsize_axis, None if options.check == "all" else options.check
    return check_precision(engine, reference, plan, read, axis=axis, samples=samples)


def _plan(engine: ArrayEngine, options: InferOptions) -> tuple[BatchPlan, ReadBatch]:
    if options.input is None:
        arrays = pure_arrays(engine.inputs, options.pure_data_type)
        return pure_plan(engine.inputs), lambda _number: arrays
    specs = fed_specs(options.input, engine.inputs)
    plan = plan_batches(options.input, specs)
    return plan, BatchReader(plan, specs).read


def _made_with(engine: ArrayEngine) -> dict[str, Any]:
    return {
        "engine": engine.name,
        "engine_version": engine.version,
        "device": engine.device,
        **engine.facts,
        "threads": engine.threads,
        "batch_size": engine.inputs[0].rows,
        "model_sha256": engine.model_sha256,
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
