"""Errors that a user can mend, each with the exit code of its kind."""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "BadData",
    "ExitCode",
    "JudgementFailed",
    "Lacking",
    "OutsideToolFailed",
    "UsageError",
    "UserError",
]


class ExitCode(IntEnum):
    """What a vidom process tells its caller when it ends."""

    DONE = 0
    JUDGEMENT_FAILED = 1
    USAGE = 2
    LACKING = 3
    BAD_DATA = 4
    OUTSIDE_TOOL_FAILED = 5
    INTERRUPTED = 130


class UserError(Exception):
    """A problem the user can mend; its text is one paragraph: what, where, expected, found, what to do.

    Commands print it without a traceback and exit with `exit_code`.
    """

    exit_code: ExitCode = ExitCode.USAGE


class JudgementFailed(UserError):
    """The work ran to its end and its result was judged wrong (parity, threshold, integrity)."""

    exit_code = ExitCode.JUDGEMENT_FAILED


class UsageError(UserError):
    """The command or the recipe asks for something that does not exist or contradicts itself."""

    exit_code = ExitCode.USAGE


class Lacking(UserError):
    """This machine lacks something the work needs: a tool, a device, a package, disk space."""

    exit_code = ExitCode.LACKING


class BadData(UserError):
    """An input file (checkpoint, video, list, store, result) is damaged or not what it should be."""

    exit_code = ExitCode.BAD_DATA


class OutsideToolFailed(UserError):
    """A program that is not ours was started and failed."""

    exit_code = ExitCode.OUTSIDE_TOOL_FAILED
