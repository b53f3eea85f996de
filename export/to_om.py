"""Compile an ONNX model to an Ascend .om with ATC: `python export/to_om.py --model M.onnx --output M.om ...`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from export.atc.cann_versions import parse_cann
from export.atc.command_line import INPUT_FORMATS, AtcOptions, shown
from export.atc.compile_job import Order, graph_inputs
from export.atc.compiler import built_models, judge, run_atc
from export.atc.precision_option import PRECISION_MODES, PRECISION_MODES_V2
from export.build_record import is_fresh, write_record
from export.lint import Subject, lint, read_subject, summary
from export.lint_onnx import batches
from vidom.command import Parser, run
from vidom.errors import CheckFailedError, ExternalToolError, UnavailableError, UsageError
from vidom.files import sha256_file, write_text
from vidom.system.cann import find_cann, require_atc
from vidom.system.npu import common_soc_version, list_cards, normalise_soc_version

__all__ = ["main", "to_om"]

_log = logging.getLogger(__name__)

SCRIPT = "commands.sh"
LOG = "atc.log"
_NO_NPU = "none: ATC compiles on the host, nothing was computed with the model"


def to_om(
    *,
    model: Path,
    output: Path,
    batch_size: int | None = None,
    soc_version: str | None = None,
    options: AtcOptions | None = None,
    cann: str | None = None,
    time_limit: float | None = None,
    dry_run: bool = False,
) -> Path:
    """`output` is the model that ATC made of `model` for the chip; a dry run writes only `commands.sh` beside it.

    The graph is linted first. ATC runs in the folder `NAME.atc` beside the output; all it prints is in `atc.log`.
    Whichever of its two names ATC gives the model, it is renamed to `output`, and `build.json` keeps the name it had.
    What was built from the same things before is left alone. A model exported for AIPP gets its configuration beside it
    and on the command line. Without `soc_version` the chip is the one that npu-smi
    shows; `cann` names the release that the command is for, without it the one that is here. Returns the file written.

    Raises UsageError for contradictions, CheckFailedError when the lint finds errors, UnavailableError without a chip to compile
    for or without ATC (`commands.sh` is written then), ExternalToolError when ATC fails.
    """
    if time_limit is not None and time_limit <= 0:
        raise UsageError(f"--time_limit takes the seconds after which ATC is stopped, found {time_limit:g}.")
    chosen = options or AtcOptions()
    here = find_cann()
    release = parse_cann(cann) if cann else here.release if here else None
    subject = read_subject(model, cann=release, batch_size=batch_size, profiles=chosen.dynamic_batch_size)
    order = Order(
        model=model.parent.resolve() / model.name,
        om=output.parent.resolve() / f"{output.name.removesuffix('.om')}.om",
        inputs=graph_inputs(subject),
        batch_size=batch_size,
        soc_version=normalise_soc_version(soc_version) if soc_version else _chip_here(),
        options=chosen,
        release=release,
        aipp=subject.aipp,
    ).with_aipp()
    by_hand = order.command(order.om.parent)
    if order.aipp:
        _log.info(f"AIPP, by {order.options.insert_op_conf}, is experimental: none of it was run on an NPU.")
    warnings = _lint(subject, model)
    script = _write_script(order)
    if dry_run:
        print(shown(by_hand), flush=True)
        return script
    version = here.version if here else None
    return _compile(order, script, version=version, time_limit=time_limit, warnings=warnings)


def _chip_here() -> str:
    try:
        return common_soc_version(list_cards())
    except (UnavailableError, ExternalToolError) as error:
        raise type(error)(
            "--soc_version is needed, since no NPU here tells for which chip to compile. Give the target's, for "
            f"instance --soc_version Ascend310P3 (make: SOC=Ascend310P3). {error}"
        ) from None


def _lint(subject: Subject, model: Path) -> list[str]:
    """Log what the lint finds and return its warnings; its errors stop."""
    findings = lint(subject)
    for finding in findings:
        _log.info(f"{finding}")
    _log.info(f"lint: {summary(findings)}")
    errors = sum(finding.severity == "error" for finding in findings)
    if errors:
        raise CheckFailedError(
            f"The lint found {errors} error(s) in {model}, listed above, each of which ATC would refuse or misread, so "
            "it was not started. Mend the graph as each line says; export/lint_onnx.py repeats the check."
        )
    return [str(finding) for finding in findings]


def _write_script(order: Order) -> Path:
    script = order.om.with_name(SCRIPT)
    write_text(script, order.script())
    script.chmod(0o755)
    _log.info(
        f"{script} does the whole chain by hand on a machine with CANN and ais_bench; nothing of it was run here."
    )
    return script


def _compile(
    order: Order, script: Path, *, version: str | None, time_limit: float | None, warnings: Sequence[str]
) -> Path:
    try:
        program = require_atc().absolute()
    except UnavailableError as error:
        raise UnavailableError(
            f"{error} Or carry {script.parent} with {script.name} to a machine that has CANN and run it there. "
            "Nothing was compiled."
        ) from None
    command = order.command(order.work, program=str(program))
    made_from = {
        "model_sha256": sha256_file(order.model),
        "files_sha256": {option: sha256_file(file) for option, file in order.files.items()},
        "command": command,
        "cann": version,
        "frames_per_sample": order.aipp.frames_per_sample if order.aipp else None,
    }
    if is_fresh(order.om, made_from):
        _log.info(f"{order.om} is up to date.")
        return order.om
    order.work.mkdir(parents=True, exist_ok=True)
    for leftover in (order.om, *built_models(order.work, order.om.stem)):
        leftover.unlink(missing_ok=True)
    log_file = order.om.with_name(LOG)
    _log.info(f"In {order.work}:\n{shown(command)}")
    done = run_atc(command, folder=order.work, log_file=log_file, time_limit=time_limit, tell=_log.info)
    built = judge(done, folder=order.work, name=order.om.stem, log_file=log_file)
    built.replace(order.om)
    write_record(
        order.om,
        made_from,
        command_line=shown(command),
        working_folder=order.work.name,
        soc_version=order.soc_version,
        atc_named_it=built.name,
        seconds=round(done.seconds, 1),
        lint_warnings=list(warnings),
        npu_used=_NO_NPU,
    )
    _log.info(
        f"Compiled for {order.soc_version} without an NPU; what it scores and how fast is still to be measured on one."
    )
    return order.om


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and print the model's path, or for a dry run the ATC command."""
    parser = Parser(description="Compile an ONNX model to an Ascend .om with ATC. No NPU is used for it.")
    add = parser.add_argument
    add("--model", type=Path, required=True, help="the ONNX model, after surgery")
    add("--output", type=Path, required=True, help="the .om to write")
    add("--batch_size", "-bs", type=int, help="the graph's batch, checked; fixes a free one")
    add("--soc_version", help="chip to compile for, 310P3 or Ascend310P3; else the one npu-smi shows")
    add("--input_format", choices=INPUT_FORMATS, default="ND", help="ATC's --input_format")
    add(
        "--precision_mode_v2",
        choices=PRECISION_MODES_V2,
        help="fp16 if no precision is given, CANN 7 and newer",
    )
    add(
        "--precision_mode",
        choices=PRECISION_MODES,
        help="the same in older releases; force_fp16 if none is given",
    )
    add("--op_precision_mode", type=Path, help=".ini of precision by operator type or node name")
    add("--keep_dtype", type=Path, help="file of operators that keep the graph's element type, one a line")
    add(
        "--dynamic_batch_size",
        type=batches,
        default=(),
        help="batches to choose from at run time, e.g. 1,4,8",
    )
    add(
        "--insert_op_conf", type=Path, help="AIPP configuration instead of the one that a model for AIPP gets"
    )
    add("--output_type", help="FP32, FP16, ... or node:0:FP16 for single outputs")
    add("--cann", help="CANN release that the command is for, e.g. 6.0; else the one installed here")
    add("--time_limit", type=float, help="seconds after which ATC is stopped; none if not given")
    add("--dry_run", action="store_true", help="print the command, write commands.sh, start nothing")
    given = parser.parse_args(argv)
    written = to_om(
        model=given.model,
        output=given.output,
        batch_size=given.batch_size,
        soc_version=given.soc_version,
        options=AtcOptions(
            input_format=given.input_format,
            precision_mode_v2=given.precision_mode_v2,
            precision_mode=given.precision_mode,
            op_precision_mode=given.op_precision_mode,
            keep_dtype=given.keep_dtype,
            dynamic_batch_size=given.dynamic_batch_size,
            insert_op_conf=given.insert_op_conf,
            output_type=given.output_type,
        ),
        cann=given.cann,
        time_limit=given.time_limit,
        dry_run=given.dry_run,
    )
    if not given.dry_run:
        print(written)


if __name__ == "__main__":
    run(main)
