"""Lint rules and their findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from export.lint.subject import Subject

__all__ = ["Fault", "Finding", "Rule", "Severity"]

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Fault:
    """A problem at `where`, in one sentence; `severity` is given where it differs from the rule's."""

    where: str
    text: str
    severity: Severity | None = None


@dataclass(frozen=True)
class Rule:
    """A named check of a graph against what ATC accepts, with its source.

    `source` starts with the kind of evidence: DOC (vendor document), SRC (vendor source), WILD (users' reports).
    No rule was tried on an NPU.
    """

    name: str
    severity: Severity
    source: str
    check: Callable[[Subject], Iterator[Fault]]


@dataclass(frozen=True)
class Finding:
    """A fault together with the rule that reports it."""

    rule: str
    severity: Severity
    where: str
    text: str
    source: str

    def __str__(self) -> str:
        return f"{self.severity} {self.rule}: {self.where}: {self.text} [{self.source}]"
