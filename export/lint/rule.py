"""What a lint rule is, what it looks at and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from export.lint.subject import Subject

__all__ = ["Fault", "Finding", "Rule", "Severity"]

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Fault:
    """One sentence on what is wrong at `where`; `severity` is given where it is not that of the rule."""

    where: str
    text: str
    severity: Severity | None = None


@dataclass(frozen=True)
class Rule:
    """A named check of a graph against what ATC takes, with the source that says so.

    `source` starts with how the fact is known: DOC (vendor document), SRC (vendor source), WILD (users'
    reports). None of it was tried on an NPU.
    """

    name: str
    severity: Severity
    source: str
    check: Callable[[Subject], Iterator[Fault]]


@dataclass(frozen=True)
class Finding:
    """A fault together with the rule that found it."""

    rule: str
    severity: Severity
    where: str
    text: str
    source: str

    def __str__(self) -> str:
        return f"{self.severity} {self.rule}: {self.where}: {self.text} [{self.source}]"
