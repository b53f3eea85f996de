"""Lint an ONNX model for ATC: `python export/lint_onnx.py --model M.onnx [--cann 8.0]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.atc.cann_versions import parse_cann
from export.atc.command_line import parse_batches
from export.lint.linter import RULES, lint, summary
from export.lint.rule import Finding
from export.lint.subject import read_subject
from vidom.command import run
from vidom.errors import ExitCode, UsageError
from vidom.options import option, read_options

__all__ = ["LintOptions", "lint_onnx", "main"]


@dataclass(frozen=True, kw_only=True)
class LintOptions:
    """Check an ONNX graph against what ATC accepts on the 310P family.

    The rules come from documents and sources; no NPU is used.
    """

    model: Path | None = option("the ONNX model", default=None)
    cann: str | None = option("target CANN release, e.g. 8.0; without it, any release", default=None)
    batch_size: int | None = option("batch size that to_om will set a symbolic batch to", "-bs", default=None)
    dynamic_batch_size: tuple[int, ...] = option(
        "profiles that to_om will declare, e.g. 1,4,8", parse=parse_batches, default=()
    )
    list: bool = option("list the rules with their sources and stop", default=False)


def lint_onnx(options: LintOptions) -> tuple[Finding, ...]:
    """Return what ATC would reject, misread or run slowly in the model, errors first.

    Raises UsageError without a model or when there is no such file, BadDataError for an invalid ONNX model.
    """
    if options.model is None:
        raise UsageError("--model (the ONNX file) is required, or --list.")
    release = parse_cann(options.cann) if options.cann else None
    subject = read_subject(
        options.model, cann=release, batch_size=options.batch_size, profiles=options.dynamic_batch_size
    )
    return lint(subject)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the findings and their number; return 1 where one of them is an error."""
    options = read_options(LintOptions, argv, prog="lint_onnx.py")
    if options.list:
        width = max(len(rule.name) for rule in RULES)
        print("\n".join(f"{rule.name:<{width}}  {rule.severity:<7}  {rule.source}" for rule in RULES))
        return ExitCode.DONE
    findings = lint_onnx(options)
    for finding in findings:
        print(finding)
    print(summary(findings), flush=True)
    failed = any(finding.severity == "error" for finding in findings)
    return ExitCode.CHECK_FAILED if failed else ExitCode.DONE


if __name__ == "__main__":
    run(main)
