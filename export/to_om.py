"""Compile an ONNX model to an Ascend .om with ATC: `python export/to_om.py --model M.onnx --output M.om ...`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.atc.cann_versions import parse_cann
from export.atc.command_line import AtcOptions, shown
from export.atc.compile_job import CompileJob, graph_inputs
from export.atc.compiler import built_models, judge, run_atc
from export.build_record import is_fresh, write_record
from export.lint.linter import lint, summary
from export.lint.subject import Subject, read_subject
from vidom.command import run
from vidom.errors import CheckFailedError, ExternalToolError, UnavailableError, UsageError
from vidom.files import write_text
from vidom.folder_lock import locked_folder
from vidom.options import nested, option, read_options
from vidom.system.cann import find_cann, require_atc
from vidom.system.npu import common_soc_version, list_npus, normalise_soc_version

__all__ = ["ToOmOptions", "main", "to_om"]

_log = logging.getLogger(__name__)

SCRIPT = "commands.sh"
LOG = "atc.log"
_NO_NPU = "none: ATC compiles on the host, the model was not run"


@dataclass(frozen=True, kw_only=True)
class ToOmOptions:
    """Compile an ONNX model to an Ascend .om with ATC. No NPU is needed."""

    model: Path = option("the ONNX model, after surgery")
    output: Path = option("the .om to write")
    batch_size: int | None = option(
        "the graph's batch size, checked; sets a symbolic one", "-bs", default=None
    )
    soc_version: str | None = option(
        "target chip, 310P3 or Ascend310P3; without it, the one that npu-smi shows", default=None
    )
    atc: AtcOptions = nested(AtcOptions)
    cann: str | None = option("target CANN release, e.g. 6.0; without it, the installed one", default=None)
    time_limit: float | None = option(
        "seconds after which ATC is stopped; without it, no limit", default=None
    )
    dry_run: bool = option("print the command and write commands.sh, but do not run ATC", default=False)

    def __post_init__(self) -> None:
        """Raise UsageError for a time limit that is not positive."""
        if self.time_limit is not None and self.time_limit <= 0:
            raise UsageError(
                f"--time_limit must be positive (seconds until ATC is stopped), found {self.time_limit:g}."
            )


def to_om(options: ToOmOptions) -> Path:
    """Lint the graph, compile it with ATC and return the path of the .om; a dry run writes and returns `commands.sh`.

    ATC runs in the folder `NAME.atc` next to the output; its complete output is in `atc.log`. Whichever of its two
    names ATC gives the model, it is renamed to `output`, and `build.json` records the original name. A model that is up
    to date is not rebuilt. A model exported for AIPP gets its configuration next to it and on the command line.

    Raises UsageError for contradictory options, CheckFailedError when lint reports errors, UnavailableError without a
    target chip or without ATC (`commands.sh` is written before), ExternalToolError when ATC fails.
    """
    installed = find_cann()
    release = parse_cann(options.cann) if options.cann else installed.release if installed else None
    subject = read_subject(
        options.model,
        cann=release,
        batch_size=options.batch_size,
        profiles=options.atc.dynamic_batch_size,
    )
    output = options.output
    job = CompileJob(
        model=options.model.parent.resolve() / options.model.name,
        om=output.parent.resolve() / f"{output.name.removesuffix('.om')}.om",
        inputs=graph_inputs(subject),
        batch_size=options.batch_size,
        soc_version=normalise_soc_version(options.soc_version) if options.soc_version else _detected_chip(),
        options=options.atc,
        release=release,
        aipp=subject.aipp,
    ).with_aipp()
    manual_command = job.command(job.om.parent)
    if job.aipp:
        _log.info(
            f"AIPP, configured by {job.options.insert_op_conf}, is experimental: it was never run on an NPU."
        )
    warnings = _lint(subject, options.model)
    script = _write_script(job)
    if options.dry_run:
        print(shown(manual_command), flush=True)
        return script
    version = installed.version if installed else None
    return _compile(job, script, version=version, time_limit=options.time_limit, warnings=warnings)


def _detected_chip() -> str:
    try:
        return common_soc_version(list_npus())
    except (UnavailableError, ExternalToolError) as error:
        raise type(error)(
            "--soc_version is required, since the target chip cannot be detected without an NPU. Set it, for instance "
            f"--soc_version Ascend310P3 (make: SOC=Ascend310P3). {error}"
        ) from None


def _lint(subject: Subject, model: Path) -> list[str]:
    """Log the findings of lint and return its warnings; raise CheckFailedError for its errors."""
    findings = lint(subject)
    for finding in findings:
        _log.info(f"{finding}")
    _log.info(f"lint: {summary(findings)}")
    errors = sum(finding.severity == "error" for finding in findings)
    if errors:
        raise CheckFailedError(
            f"Lint reports {errors} error(s) in {model}, listed above. ATC would reject or misread the graph, so it "
            "was not started. Fix the graph as each line says; export/lint_onnx.py repeats the check."
        )
    return [str(finding) for finding in findings]


def _write_script(job: CompileJob) -> Path:
    script = job.om.with_name(SCRIPT)
    write_text(script, job.script())
    script.chmod(0o755)
    _log.info(
        f"{script} runs the complete pipeline on a machine with CANN and ais_bench; it was not run here."
    )
    return script


def _compile(
    job: CompileJob, script: Path, *, version: str | None, time_limit: float | None, warnings: Sequence[str]
) -> Path:
    try:
        program = require_atc().absolute()
    except UnavailableError as error:
        raise UnavailableError(
            f"{error} Or copy {script.parent} with {script.name} to a machine that has CANN and run it there. "
            "Nothing was compiled."
        ) from None
    command = job.command(job.work_folder, program=str(program))
    made_from = {**job.inputs_of_build(), "command": command, "cann": version}
    if is_fresh(job.om, made_from):
        _log.info(f"{job.om} is up to date.")
        return job.om
    job.work_folder.mkdir(parents=True, exist_ok=True)
    for leftover in (job.om, *built_models(job.work_folder, job.om.stem)):
        leftover.unlink(missing_ok=True)
    log_file = job.om.with_name(LOG)
    _log.info(f"In {job.work_folder}:\n{shown(command)}")
    ended = run_atc(
        command, folder=job.work_folder, log_file=log_file, time_limit=time_limit, on_line=_log.info
    )
    built = judge(ended, folder=job.work_folder, name=job.om.stem, log_file=log_file)
    built.replace(job.om)
    write_record(
        job.om,
        made_from,
        command_line=shown(command),
        working_folder=job.work_folder.name,
        soc_version=job.soc_version,
        atc_named_it=built.name,
        seconds=round(ended.seconds, 1),
        lint_warnings=list(warnings),
        npu_used=_NO_NPU,
    )
    _log.info(
        f"Compiled for {job.soc_version} without an NPU; accuracy and speed must still be measured on one."
    )
    return job.om


def main(argv: Sequence[str] | None = None) -> None:
    """Compile and print the path of the model, or for a dry run the ATC command."""
    options = read_options(ToOmOptions, argv, prog="to_om.py")
    with locked_folder(options.output.parent):
        written = to_om(options)
    if not options.dry_run:
        print(written)


if __name__ == "__main__":
    run(main)
