"""Inference on an Ascend NPU: ais_bench as an outside process, checked before, watched, and judged by what it left.

Its summary `{dirname}_summary.json` stays byte for byte as it wrote it, and what we know besides goes to
`{dirname}_vidom.json`. Only where several devices shared the files is the summary ours, made of theirs.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from infer.batches.performance import InferenceResult
from infer.batches.run_folder import RunFolder
from infer.engines.ascend.checks import check_output_folder, check_paths, check_room
from infer.engines.ascend.failures import ended_how, explain, first_failure
from infer.engines.ascend.log_lines import AisLog
from infer.engines.ascend.measured_run import AscendRun, measured, own_facts, own_lines
from infer.engines.ascend.merged_outputs import left_behind, merge_parts, read_part
from infer.engines.ascend.om_input import OmPlan, plan_om_batches, recorded_samples
from infer.engines.ascend.parts import Part, part_command, parts_of
from infer.options import Options
from vidom.errors import BadDataError, ExternalToolError, UnavailableError, UsageError, UserError
from vidom.files import write_json, write_text
from vidom.system.ais_bench_probe import AisBench, probe_ais_bench
from vidom.system.cann import find_cann
from vidom.system.external_run import Ended, Job, Stream, run_streamed
from vidom.system.npu import common_soc_version, list_cards

__all__ = ["run_ascend"]

_log = logging.getLogger(__name__)


def run_ascend(options: Options, *, say: Callable[[str], None]) -> InferenceResult:
    """Every input file has its outputs in `{output}/{output_dirname}`; the summary lies beside that folder.

    `say` takes the lines that ais_bench prints on stdout, and ours after them. Raises UsageError, BadDataError or UnavailableError
    before ais_bench is started wherever that can be known, ExternalToolError when it fails or its results are not
    whole; what it wrote until then is kept.
    """
    if options.threads or options.provider or options.precision:
        raise UsageError(
            "--provider and threads are ONNX Runtime's, --precision is OpenVINO's; an .om has the precision that it "
            "was built with. Leave them out, or use --engine onnxruntime or openvino."
        )
    bench = _working_ais_bench()
    if not options.model.is_file():
        raise BadDataError(
            f"The model {options.model} does not exist. Build it first (make om), or check the path."
        )
    plan = None
    if options.input is not None:
        plan = plan_om_batches(
            options.input, options.model, batch=options.batchsize, dym_batch=options.dym_batch
        )
    options, places = _prepared(_told_samples(options, plan), plan)
    with parts_of(options, plan.batches if plan else None, places) as parts:
        commands = [part_command(bench.interpreter, options, part) for part in parts]
        logs = [AisLog(plan) for _ in parts]
        ended = _run(commands, parts, logs, options.time_limit, say)
        _check_ended(ended, parts)
        results = [read_part(part) for part in parts] if places else []
    _check_throughput(logs, parts)
    run = AscendRun(options, plan, parts, commands, logs, ended, results, bench, _chip(), _cann())
    result = measured(run, places.summary if places else None)
    if places:
        _keep(run, places, result)
    for line in own_lines(run, result):
        say(line)
    return result


def _working_ais_bench() -> AisBench:
    bench = probe_ais_bench()
    if bench.problems:
        raise UnavailableError(
            f"The Python of ais_bench, {bench.interpreter}, can not run it. Type: {'; then '.join(bench.problems)}"
        )
    return bench


def _told_samples(options: Options, plan: OmPlan | None) -> Options:
    """Return the options with the batch of a model for AIPP, whose dimension 0 makes ais_bench count pictures.

    Raises UsageError where nothing tells that batch.
    """
    samples = options.batchsize or recorded_samples(options.model)
    pictures = plan.spec.pictures_per_sample if plan else None
    if pictures and samples is None:
        raise UsageError(
            f"The clip store is for AIPP, {pictures} pictures a sample, and no build.json beside {options.model} tells "
            "how many samples the model takes at once. Give --batchsize N."
        )
    if pictures:
        _log.info(
            "The model's input is made by AIPP, which is experimental here: it was never run on an NPU."
        )
    return replace(options, batchsize=samples)


def _prepared(options: Options, plan: OmPlan | None) -> tuple[Options, RunFolder | None]:
    """Check what ais_bench does not, then clear the run's folder; return the options with its name."""
    check_paths(_paths(options, plan))
    if options.output is None:
        return options, None
    dirname = options.output_dirname or time.strftime("%Y_%m_%d-%H_%M_%S")
    places = RunFolder.of(options.output, dirname)
    places.refuse_foreign()
    if remark := check_output_folder(options.output, dirname):
        _log.info(remark)
    check_room(
        options.output,
        files=len(plan.batches.entries) if plan else 1,
        values=plan.classes if plan else None,
    )
    write_text(places.journal, '{"vidom": 1, "engine": "ascend"}\n')
    places.clear()
    places.folder.chmod(0o750)
    return replace(options, output_dirname=dirname), places


def _paths(options: Options, plan: OmPlan | None) -> list[str]:
    files = [file.path for entry in plan.batches.entries for file in entry] if plan else []
    given = options.input
    folders = given.split(",") if isinstance(given, str) else [given] if given is not None else []
    return list(dict.fromkeys([str(options.model), *map(str, folders), *files]))


def _run(
    commands: Sequence[Sequence[str]],
    parts: Sequence[Part],
    logs: Sequence[AisLog],
    time_limit: float | None,
    say: Callable[[str], None],
) -> tuple[Ended, ...]:
    def tell(number: int, stream: Stream, text: str) -> None:
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
    return run_streamed(jobs, tell=tell, time_limit=time_limit, environ=environ)


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
            "This version prints another summary than the one that is read here (0.0.2)."
        )


def _keep(run: AscendRun, places: RunFolder, result: InferenceResult) -> None:
    own = own_facts(run, result)
    if len(run.parts) > 1:
        merge_parts(run.results, places, args=sys.argv, own=own)
    write_json(places.facts, own)
    places.journal.unlink()


def _chip() -> str | None:
    try:
        return common_soc_version(list_cards())
    except UserError:
        return None


def _cann() -> str | None:
    cann = find_cann()
    return cann.version if cann else None
