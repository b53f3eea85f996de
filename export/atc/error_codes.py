"""The error codes in ATC's output, explained."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from export.atc.advice import ADVICE, UNCODED, UNKNOWN, Advice

__all__ = ["AtcError", "explain", "find_errors"]

_LINE = re.compile(r"^(?P<code>E[A-Z]?\d{4,5}|W\d{5}):?\s+(?P<text>.*)$", re.MULTILINE)
# Between code and text some releases put the process id, some the time, some both.
_STAMPS = re.compile(r"^(?:\[PID:\s*\d+\]\s*|\d{4}-\d{2}-\d{2}-[\d:.]+\s*)+")
_LONGEST = 400
_MOST = 5


@dataclass(frozen=True)
class AtcError:
    """One coded line of ATC's output, without process id and time."""

    code: str
    text: str

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


def find_errors(output: str) -> tuple[AtcError, ...]:
    """Return the coded errors in ATC's output in their order, each once; its coded warnings (W...) are left out."""
    found = (
        AtcError(line["code"], _STAMPS.sub("", line["text"]).strip()[:_LONGEST])
        for line in _LINE.finditer(output)
        if line["code"][0] == "E"
    )
    return tuple(dict.fromkeys(found))


def explain(output: str) -> tuple[str, ...]:
    """Return a paragraph for each error in ATC's output: the line, what it means, what to do next.

    An inner error that only follows from others is left out, and so is all beyond the first five. Output without
    codes is searched for the troubles that have none; an empty tuple says that nothing was recognised.
    """
    errors = find_errors(output)
    plain = [error for error in errors if not error.code.endswith("9999")] or list(errors)
    if plain:
        return tuple(f"{error} {_told(_advice(error))}" for error in plain[:_MOST])
    return tuple(text for pattern, text in UNCODED if re.search(pattern, output))


def _advice(error: AtcError) -> Advice:
    return next(
        (entry for entry in ADVICE if error.code in entry.codes and re.search(entry.pattern, error.text)),
        UNKNOWN,
    )


def _told(advice: Advice) -> str:
    return " ".join(_sentences((advice.meaning, advice.todo)))


def _sentences(parts: Iterable[str]) -> Iterable[str]:
    return (part if part.endswith(".") else f"{part}." for part in parts)
