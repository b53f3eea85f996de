"""Lint of an ONNX graph against what ATC accepts on the 310P family, before hours are spent compiling it.

The rules follow vendor documents, vendor sources and users' reports; nothing was run on an NPU, so a clean lint does
not guarantee that ATC succeeds.
"""

from __future__ import annotations

from collections.abc import Sequence

from export.lint.graph_rules import GRAPH_RULES
from export.lint.operator_rules import OPERATOR_RULES
from export.lint.rule import Finding, Rule
from export.lint.shape_rules import SHAPE_RULES
from export.lint.subject import Subject
from export.lint.window_rules import WINDOW_RULES

__all__ = ["RULES", "lint", "summary"]

RULES: tuple[Rule, ...] = (*GRAPH_RULES, *SHAPE_RULES, *WINDOW_RULES, *OPERATOR_RULES)


def lint(subject: Subject) -> tuple[Finding, ...]:
    """Return the findings of all rules on `subject`, errors first, otherwise in the order of `RULES`.

    Raises BadDataError when the shapes of the graph contradict each other.
    """
    findings = [
        Finding(rule.name, fault.severity or rule.severity, fault.where, fault.text, rule.source)
        for rule in RULES
        for fault in rule.check(subject)
    ]
    return tuple(sorted(findings, key=lambda finding: finding.severity != "error"))


def summary(findings: Sequence[Finding]) -> str:
    """Return the number of errors and warnings among `findings`: `2 errors, 1 warnings`."""
    errors = sum(finding.severity == "error" for finding in findings)
    return f"{errors} errors, {len(findings) - errors} warnings"
