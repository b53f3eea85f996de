"""Remove what a command leaves, however it ends: a process of its own does it, which outlives the command.

That process runs this file by its name, with the standard library only.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["removed_at_end"]

_ROUNDS = 500
_SECONDS_PER_ROUND = 0.01


@contextmanager
def removed_at_end(*paths: Path) -> Iterator[None]:
    """Remove the files and folders, which need not exist, when the block or this process ends, even by SIGKILL.

    Other processes that hold files of the folders open are killed first. Afterwards nothing of it is running.
    """
    command = [sys.executable, "-I", "-S", __file__, *(str(path.absolute()) for path in paths)]
    with subprocess.Popen(
        command,
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Ctrl-C and the end of a terminal are for the command only.
        start_new_session=True,
    ):
        yield


def _remove(paths: Sequence[str]) -> None:
    spared = {os.getpid(), os.getppid()}
    for _ in range(_ROUNDS):
        users = _users(paths) - spared
        if not users:
            break
        for pid in users:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_SECONDS_PER_ROUND)
    for path in map(Path, paths):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _users(folders: Sequence[str]) -> set[int]:
    """Return the processes that hold a file open in one of the folders, as far as the system shows them."""
    inside = tuple(f"{folder}/" for folder in folders)
    users = set()
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if str(descriptor.readlink()).startswith(inside):
                users.add(int(descriptor.parts[2]))
    return users


if __name__ == "__main__":
    # The other end of the pipe is closed when the block is left, or by the kernel when the command ends.
    sys.stdin.read()
    _remove(sys.argv[1:])
