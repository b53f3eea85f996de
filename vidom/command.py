"""Conventions shared by all commands: option spelling, logging, one-paragraph errors, exit codes."""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import re
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import ClassVar, NoReturn, TextIO

from vidom.errors import ExitCode, UserError, is_refused_memory
from vidom.wording import escaped

__all__ = ["Parser", "configure_logging", "run"]

_LIMITS = {
    errno.EMFILE: "ulimit -n",
    errno.EFBIG: "ulimit -f",
    errno.ENOMEM: "ulimit -v",
    errno.EAGAIN: "ulimit -u",
}
_COLOURS = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31"}


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults where there are any; `(default: None)` carries no information."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default in ("", [], (), False, argparse.SUPPRESS):
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An argument parser for all commands.

    Takes `--batch_size` and `--batch-size` alike, never guesses prefixes, and sets up logging from
    `-v/--verbose` and `-q/--quiet`, which do not appear in the namespace.
    """

    prog_override: ClassVar[str | None] = None
    """The name that the help shows instead of the command's own, such as `vidom export`."""
    help_note: ClassVar[str | None] = None
    """A paragraph at the end of the help."""

    def __init__(self, *, description: str, prog: str | None = None) -> None:
        super().__init__(
            prog=self.prog_override or prog,
            description=description,
            epilog=self.help_note,
            allow_abbrev=False,
            formatter_class=_Help,
        )
        self.add_argument("-v", "--verbose", action="store_true", help="log details too")
        self.add_argument("-q", "--quiet", action="store_true", help="log warnings and errors only")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse as argparse does; where a shell asks for completions, print them and end the process."""
        if "_ARGCOMPLETE" in os.environ:
            import argcomplete

            argcomplete.autocomplete(self)
        return super().parse_args(args, namespace)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse as argparse does after turning dashes inside long option names into underscores."""
        words = list(sys.argv[1:] if args is None else args)
        parsed, rest = super().parse_known_args([self._underscored(word) for word in words], namespace)
        verbose, quiet = parsed.__dict__.pop("verbose", False), parsed.__dict__.pop("quiet", False)
        configure_logging(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
        return parsed, rest

    def _underscored(self, word: str) -> str:
        if not word.startswith("--") or word in self._option_string_actions:
            return word
        name, equals, value = word[2:].partition("=")
        return f"--{name.replace('-', '_')}{equals}{value}"

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, then exit 2."""
        self.print_usage(sys.stderr)
        self.exit(ExitCode.USAGE, f"{self.prog}: {message}\n")


class _StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to the stderr of the moment, which notebooks and tests replace."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self):  # type: ignore[no-untyped-def]
        return sys.stderr

    def format(self, record: logging.LogRecord) -> str:
        text = escaped(super().format(record))
        if record.levelno == logging.INFO:
            return text
        return f"{_coloured(record.levelname.lower() + ':', record.levelno)} {text}"


def configure_logging(level: int = logging.INFO) -> None:
    """Send log records from `level` upwards to stderr, as plain lines; stdout carries results only.

    May be called again to change the level. Other libraries are heard from WARNING upwards.
    """
    root = logging.getLogger()
    if not any(isinstance(handler, _StderrHandler) for handler in root.handlers):
        root.addHandler(_StderrHandler())
    for package in ("vidom", "networks", "preprocess", "export", "infer", "postprocess", "train"):
        logging.getLogger(package).setLevel(level)
    for package in ("benchmarks", "demo", "__main__"):
        logging.getLogger(package).setLevel(level)


def run(main: Callable[[Sequence[str] | None], int | None]) -> NoReturn:
    """Call `main` with the command line and end the process with the exit code of its outcome.

    A UserError becomes one paragraph on stderr; so does what the operating system refuses: disk space, memory, open
    files, permissions. Anything else is a fault of vidom: it keeps its traceback, and the exit code is 70.
    """
    # A scheduler's SIGTERM unwinds like Ctrl-C, so that temporary files are removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _occupy_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # What the encoding of a terminal lacks, such as the bytes of a foreign file name, is no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = main(None) or ExitCode.DONE
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = _report("Interrupted; what was finished is kept.", ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # The reader of stdout exited (`| head`), so that no report is possible.
        _discard(sys.stdout)
        code = ExitCode.DONE
    except Exception as error:
        code = _report(*(_explained(error) or _internal(error)))
    _discard_unwritable(sys.stdout)
    _discard_unwritable(sys.stderr)
    sys.exit(int(code))


def _explained(error: Exception) -> tuple[str, ExitCode] | None:
    """Return the paragraph and the exit code for an error that the user can fix, None for any other."""
    if isinstance(error, UserError):
        return str(error), error.exit_code
    unsized = isinstance(error, RuntimeError | ImportError) and is_refused_memory(str(error))
    if isinstance(error, MemoryError) or unsized:
        return (
            f"This process was refused more memory ({str(error) or 'MemoryError'}). Free some, lift its limit "
            "(ulimit -v), or use a smaller batch size and fewer workers.",
            ExitCode.UNAVAILABLE,
        )
    return _os_error(error) if isinstance(error, OSError) and error.errno else None


def _os_error(error: OSError) -> tuple[str, ExitCode]:
    where = error.filename or "the output"
    reason = error.strerror or os.strerror(error.errno or 0)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk is full: {where} could not be written. Free some space, or point the output at a "
            "larger disk, and run the same command again; it resumes where it stopped.",
            ExitCode.UNAVAILABLE,
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"No permission for {where}. Check its owner and mode.", ExitCode.USAGE
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
        return f"{reason}: {where}", ExitCode.USAGE
    if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
        return f"{reason}: {where}", ExitCode.BAD_DATA
    limit = _LIMITS.get(error.errno or 0)
    advice = (
        f" This process runs under a limit; lift it ({limit}) and run the same command again."
        if limit
        else ""
    )
    return f"{reason}: {where}.{advice}", ExitCode.UNAVAILABLE


def _internal(error: Exception) -> tuple[str, ExitCode]:
    _write_error(escaped("".join(traceback.format_exception(error)), limit=20_000))
    return (
        f"Internal error ({type(error).__name__}). This is a fault of vidom, not a result. What was finished is kept; "
        "please report the lines above with the command that was run.",
        ExitCode.INTERNAL_ERROR,
    )


def _occupy_closed_streams() -> None:
    """Open the null device in place of closed standard streams, so that no file that is opened later becomes one.

    For stdout it is opened for reading: what is printed there is a result, whose loss is reported as an error.
    """
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        _discard(sys.stderr)


def _discard_unwritable(stream: TextIO) -> None:
    """Discard what is left in a stream that takes nothing more; Python would end with exit code 120."""
    try:
        stream.flush()
    except (OSError, ValueError):
        _discard(stream)


def _discard(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _report(message: str, code: ExitCode) -> ExitCode:
    # Tables inside a message keep their lines; prose is wrapped to the width people read.
    first, *rest = (
        line if line.startswith("  ") else _wrapped(line) for line in f"error: {escaped(message)}".split("\n")
    )
    first = _coloured("error:", logging.ERROR) + first[len("error:") :]
    _write_error("\n".join((first, *rest)) + "\n")
    return code


def _wrapped(line: str) -> str:
    # An option keeps its value on its line, so that both can be copied; escaped text contains no null character.
    whole = re.sub(r"(--[\w-]+) (?=\w)", "\\1\0", line)
    return textwrap.fill(whole, 100, break_on_hyphens=False, break_long_words=False).replace("\0", " ")


def _write_error(text: str) -> None:
    # Where stderr is full or closed, the exit code is the only report.
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def _coloured(text: str, level: int) -> str:
    """Return `text` in the colour of its level on a terminal, unless NO_COLOR (no-color.org) is set."""
    if os.environ.get("NO_COLOR") or not sys.stderr.isatty():
        return text
    return f"\x1b[{_COLOURS[level]}m{text}\x1b[0m"
