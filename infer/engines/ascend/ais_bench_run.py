"""Inference on an Ascend NPU: ais_bench as an external process, with its input and its results checked.

Its summary `{dirname}_summary.json` stays byte for byte as it wrote it; additional facts go to `{dirname}_vidom.json`.
Only where several devices shared the files, the summary is ours, merged from theirs.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace

from infer.batches.performance import InferenceResult
from infer.batches.run_folder import RunFolder
from infer.engines.ascend.checks import check_free_space, check_loop, check_paths, prepare_output
from infer.engines.ascend.failures import ended_how, explain, first_failure
from infer.engines.ascend.installed import installed, working_ais_bench
from infer.engines.ascend.log_lines import AisLog
from infer.engines.ascend.measured_run import AscendRun, measured, own_facts, own_lines
from infer.engines.ascend.merged_outputs import left_behind, merge_parts, read_part
from infer.engines.ascend.om_input import OmPlan, plan_om_batches, recorded_samples
from infer.engines.ascend.parts import Part, part_command, parts_of
from infer.engines.engine_options import AscendOptions
from infer.infer_options import InferOptions
from vidom.errors import BadDataError, ExternalToolError, UsageError
from vidom.files import write_json
from vidom.system.external_run import Ended, Job, Stream, run_streamed

__all__ = ["run_ascend"]

_log = logging.getLogger(__name__)


def run_ascend(
    options: InferOptions, ascend: AscendOptions, *, say: Callable[[str], None]
) -> InferenceResult:
    """Write the outputs of every input file to `{output}/{output_dirname}`, the summary next to that folder.

    `say` takes the lines that ais_bench prints on stdout, then ours. Raises UsageError, BadDataError or
    UnavailableError before ais_bench is started wherever that can be known, ExternalToolError when it fails or its
    results are incomplete. What it wrote until then is kept; if that is nothing, so are the results of an earlier run.
    """
    if not options.chosen_model.is_file():
        raise BadDataError(
            f"The model {options.model} does not exist. Build it first (make om), or check the path."
        )
    bench = working_ais_bench()
    plan = None
    if options.input is not None:
        plan = plan_om_batches(
            options.input, options.chosen_model, batch=options.batchsize, dym_batch=options.dym_batch
        )
    options = _with_batch(options, plan)
    places = _prepared(options, plan)
    with places.replaced() if places else nullcontext():
        with parts_of(options, ascend.devices, plan.batches if plan else None, places) as parts:
            commands = [part_command(bench, options, part) for part in parts]
            logs = [AisLog(plan) for _ in parts]
            ended = _run(commands, parts, logs, ascend.time_limit, say)
            _check_ended(ended, parts)
            results = [read_part(part) for part in parts] if places else []
        _check_throughput(logs, parts)
        run = AscendRun(options, plan, parts, commands, logs, ended, results, installed(bench))
        result = measured(run, places.summary if places else None)
        if places:
            _keep(run, places, result)
    for line in own_lines(run, result):
        say(line)
    return result


def _with_batch(options: InferOptions, plan: OmPlan | None) -> InferOptions:
    """Return the options with the batch of a model for AIPP, for which ais_bench counts frames, not samples.

    Raises UsageError where that batch is unknown.
    """
    samples = options.batchsize or recorded_samples(options.chosen_model)
    frames = plan.spec.frames_per_sample if plan else None
    if frames and samples is None:
        raise UsageError(
            f"The clip store is for AIPP, {frames} frames per sample, and no build.json next to {options.model} states "
            "the batch of the model. Give --batchsize N."
        )
    if frames:
        _log.warning("The model's input uses AIPP, which is experimental here: it was never run on an NPU.")
    return replace(options, batchsize=samples)


def _prepared(options: InferOptions, plan: OmPlan | None) -> RunFolder | None:
    """Check what ais_bench does not, or refuses; return the files of the run, None without an output folder."""
    check_loop(options.loop)
    check_paths(_paths(options, plan))
    if options.output is None:
        return None
    output, dirname = str(options.output), str(options.output_dirname)
    places = RunFolder.of(output, dirname)
    places.refuse_foreign()
    prepare_output(output, dirname)
    check_free_space(
        output,
        files=len(plan.batches.entries) if plan else 1,
        values=plan.classes if plan else None,
    )
    return places


def _paths(options: InferOptions, plan: OmPlan | None) -> list[str]:
    files = [file.path for entry in plan.batches.entries for file in entry] if plan else []
    given = options.input
    folders = given.split(",") if isinstance(given, str) else [given] if given is not None else []
    return list(dict.fromkeys([str(options.chosen_model), *map(str, folders), *files]))


def _run(
    commands: Sequence[Sequence[str]],
    parts: Sequence[Part],
    logs: Sequence[AisLog],
    time_limit: float | None,
    say: Callable[[str], None],
) -> tuple[Ended, ...]:
    def pass_on(number: int, stream: Stream, text: str) -> None:
        if stream == "stdout":
            logs[number].read(text)
            say(f"[device {parts[number].device}] {text}" if len(parts) > 1 else text)
        elif len(parts) == 1:
            sys.stderr.write(text)  # its progress bar; several would overwrite each other
            sys.stderr.flush()

    for command in commands:
        _log.info(shlex.join(command))
    jobs = [Job(command, part.log) for command, part in zip(commands, parts, strict=True)]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return run_streamed(jobs, on_output=pass_on, time_limit=time_limit, environ=environ)


def _check_ended(ended: Sequence[Ended], parts: Sequence[Part]) -> None:
    failed = first_failure(ended)
    if failed is None:
        return
    kept = " ".join(filter(None, map(left_behind, parts)))
    raise ExternalToolError(
        f"ais_bench on device {parts[failed].device} {ended_how(ended[failed])}. {explain(ended[failed].output)} {kept}"
    )


def _check_throughput(logs: Sequence[AisLog], parts: Sequence[Part]) -> None:
    silent = [part.device for part, read in zip(parts, logs, strict=True) if read.throughput is None]
    if silent and parts[0].summary is None:
        raise ExternalToolError(
            f"ais_bench on device {silent[0]} ended with code 0 but printed no throughput, so nothing was measured. "
            "This version prints a summary that differs from the supported one (0.0.2)."
        )


def _keep(run: AscendRun, places: RunFolder, result: InferenceResult) -> None:
    own = own_facts(run, result)
    if run.shared:
        merge_parts(run.results, places, args=sys.argv, own=own)
    write_json(places.facts, own)
