"""User-fixable errors, each with the exit code of its kind."""

from __future__ import annotations

import re
from enum import IntEnum

__all__ = [
    "BadDataError",
    "CheckFailedError",
    "ExitCode",
    "ExternalToolError",
    "UnavailableError",
    "UsageError",
    "UserError",
    "is_refused_memory",
]

_NO_MEMORY = re.compile(
    r"can't allocate memory|bad[ _]alloc|allocate memory|can't start new thread|failed to map segment",
    re.IGNORECASE,
)


class ExitCode(IntEnum):
    """What a vidom process reports to its caller when it ends."""

    DONE = 0
    CHECK_FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3
    BAD_DATA = 4
    EXTERNAL_TOOL_FAILED = 5
    INTERNAL_ERROR = 70
    INTERRUPTED = 130


class UserError(Exception):
    """A problem the user can fix; its text is one paragraph: what, where, expected, found, what to do.

    Commands print it without a traceback and exit with `exit_code`.
    """

    exit_code: ExitCode = ExitCode.USAGE


class CheckFailedError(UserError):
    """The work ran to its end and its result failed a check (parity, threshold, integrity)."""

    exit_code = ExitCode.CHECK_FAILED


class UsageError(UserError):
    """The command or the recipe asks for something that does not exist or contradicts itself."""

    exit_code = ExitCode.USAGE


class UnavailableError(UserError):
    """This machine lacks something the work needs: a tool, a device, a package, disk space."""

    exit_code = ExitCode.UNAVAILABLE


class BadDataError(UserError):
    """An input file (checkpoint, video, list, store, result) is damaged or of the wrong kind."""

    exit_code = ExitCode.BAD_DATA


class ExternalToolError(UserError):
    """An external program was started and failed."""

    exit_code = ExitCode.EXTERNAL_TOOL_FAILED


def is_refused_memory(text: str) -> bool:
    """Return whether torch, ONNX Runtime or the standard library say so when memory or threads run out."""
    return _NO_MEMORY.search(text) is not None
