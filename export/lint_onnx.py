"""Lint an ONNX model for ATC: `python export/lint_onnx.py --model M.onnx [--cann 8.0]`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from export.atc.cann_versions import parse_cann
from export.lint import RULES, Finding, lint, read_subject, summary
from vidom.command import Parser, run
from vidom.errors import ExitCode

__all__ = ["batches", "lint_onnx", "main"]


def lint_onnx(
    *,
    model: Path,
    cann: str | None = None,
    batch_size: int | None = None,
    dynamic_batch_size: tuple[int, ...] = (),
) -> tuple[Finding, ...]:
    """Return what in `model` ATC would refuse, misread or run slowly, errors first.

    `cann` is the release it is meant for, None for any; `batch_size` fixes a symbolic batch and
    `dynamic_batch_size` declares it as profiles, as the same options of to_om do. Raises UsageError when there is no
    such file, BadDataError when it is no valid ONNX model.
    """
    release = parse_cann(cann) if cann else None
    return lint(read_subject(model, cann=release, batch_size=batch_size, profiles=dynamic_batch_size))


def batches(text: str) -> tuple[int, ...]:
    """Return the comma-separated numbers of `text`; a ValueError becomes argparse's complaint."""
    return tuple(int(part) for part in text.split(","))


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, print the findings and how many there are."""
    parser = Parser(
        description="Check an ONNX graph against what ATC takes on the 310P family. The rules come from documents "
        "and sources; no NPU is used."
    )
    parser.add_argument("--model", type=Path, help="the ONNX model")
    parser.add_argument("--cann", help="CANN release it is meant for, e.g. 8.0; without it, any release")
    parser.add_argument("--batch_size", "-bs", type=int, help="what to_om will fix a symbolic batch to")
    parser.add_argument(
        "--dynamic_batch_size", type=batches, default=(), help="profiles that to_om will declare, e.g. 1,4,8"
    )
    parser.add_argument("--list", action="store_true", help="list the rules with their sources and stop")
    options = parser.parse_args(argv)
    if options.list:
        width = max(len(rule.name) for rule in RULES)
        print("\n".join(f"{rule.name:<{width}}  {rule.severity:<7}  {rule.source}" for rule in RULES))
        return ExitCode.DONE
    if options.model is None:
        parser.error("--model (the ONNX file) is needed, or --list")
    findings = lint_onnx(
        model=options.model,
        cann=options.cann,
        batch_size=options.batch_size,
        dynamic_batch_size=options.dynamic_batch_size,
    )
    for finding in findings:
        print(finding)
    print(summary(findings), flush=True)
    refused = any(finding.severity == "error" for finding in findings)
    return ExitCode.CHECK_FAILED if refused else ExitCode.DONE


if __name__ == "__main__":
    run(main)
