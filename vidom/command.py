"""The manners all commands share: both spellings of options, one-paragraph errors, exit codes."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import NoReturn

from vidom.errors import ExitCode, UserError

__all__ = ["Parser", "log", "run"]


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults where there are any; `(default: None)` tells nobody anything."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default in ("", [], False):
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An argument parser that takes `--batch_size` and `--batch-size` alike and never guesses prefixes."""

    def __init__(self, *, description: str, prog: str | None = None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            allow_abbrev=False,
            formatter_class=_Help,
        )

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse as argparse does after turning dashes inside long option names into underscores."""
        words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args([self._underscored(word) for word in words], namespace)

    def _underscored(self, word: str) -> str:
        if not word.startswith("--") or word in self._option_string_actions:
            return word
        name, equals, value = word[2:].partition("=")
        return f"--{name.replace('-', '_')}{equals}{value}"

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, then exit 2."""
        self.print_usage(sys.stderr)
        self.exit(ExitCode.USAGE, f"{self.prog}: {message}\n")


def log(message: str) -> None:
    """Print `message` on stderr, where progress and remarks go; stdout carries results only."""
    print(message, file=sys.stderr, flush=True)


def run(main: Callable[[Sequence[str] | None], int | None]) -> NoReturn:
    """Call `main` with the command line and end the process with the exit code of its outcome.

    A UserError becomes one paragraph on stderr; so do a full disk, a file that may not be read or written
    and an interruption. Anything else is our own fault and keeps its traceback.
    """
    # A scheduler's SIGTERM unwinds like Ctrl-C, so that temporary files are removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = main(None) or ExitCode.DONE
        sys.stdout.flush()
    except UserError as error:
        code = _tell(str(error), error.exit_code)
    except KeyboardInterrupt:
        code = _tell("Interrupted; what was finished is kept.", ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away (`| head`); nobody is left to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.DONE
    except OSError as error:
        told = _os_error(error)
        if told is None:
            raise
        code = _tell(*told)
    sys.exit(int(code))


def _os_error(error: OSError) -> tuple[str, ExitCode] | None:
    where = error.filename or "the output"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk is full: {where} could not be written. Free some space, or point the output at a "
            "larger disk, and run the same command again; it continues where it stopped.",
            ExitCode.UNAVAILABLE,
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"No permission for {where}. Check its owner and mode.", ExitCode.USAGE
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
        return f"{error.strerror}: {where}", ExitCode.USAGE
    return None


def _tell(message: str, code: ExitCode) -> ExitCode:
    # Tables inside a message keep their lines; prose is wrapped to the width people read.
    lines = (
        line
        if line.startswith("  ")
        else textwrap.fill(line, 100, break_on_hyphens=False, break_long_words=False)
        for line in f"error: {message}".split("\n")
    )
    print("\n".join(lines), file=sys.stderr, flush=True)
    return code
