"""A program that is not ours, started so that it and all it starts can be stopped together."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vidom.errors import ExternalToolError

__all__ = ["kill_group", "start_group", "stop_group"]

_GRACE = 5.0


def start_group(
    command: Sequence[str],
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    stdin: int = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """Return the started process, leader of a group of its own, with pipes for stdout and stderr and an empty stdin.

    `stdin` and `stderr` are what they are to be instead, as subprocess takes them. An interruption meanwhile is raised
    once the process has a name by which it can be stopped. Raises
    ExternalToolError when the command cannot be started.
    """
    try:
        with _uninterrupted():
            return subprocess.Popen(
                command,
                cwd=folder,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=None if environ is None else dict(environ),
                start_new_session=True,
            )
    except OSError as error:
        raise ExternalToolError(
            f"`{' '.join(command)}` could not be started ({error.strerror or error}). Check that {command[0]} is a "
            "program for this processor and that its mode lets you run it."
        ) from None


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """Stop the process group and all that is in it, after a few seconds in which it may end by itself."""
    if not _signal(process, signal.SIGTERM):
        return
    deadline = time.monotonic() + _GRACE
    while _signal(process, 0) and time.monotonic() < deadline:
        process.poll()
        time.sleep(0.02)
    kill_group(process)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the process group and all that is in it."""
    _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen[bytes], number: int) -> bool:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False  # all of the group has ended
    return True


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Delay an interruption until the block is left."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is ever interrupted
        return
    pending: list[int] = []
    before = {
        number: signal.signal(number, lambda caught, frame: pending.append(caught))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if pending:
        raise KeyboardInterrupt
