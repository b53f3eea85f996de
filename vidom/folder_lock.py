"""Folders that belong to one process at a time."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vidom.errors import UnavailableError
from vidom.files import remove_leftovers
from vidom.wording import shown

__all__ = ["LOCK_NAME", "locked_folder"]

_log = logging.getLogger(__name__)

LOCK_NAME = ".lock"
_held: set[str] = set()


@contextmanager
def locked_folder(folder: Path | str, *, mode: int = 0o777) -> Iterator[None]:
    """Keep `folder` for this process while the block runs; a second process is refused.

    It is created with its parents, in that mode as far as the umask allows, and what is still empty then is removed
    again. The kernel releases the lock (flock of
    `.lock`, which holds the pid) however the process ends. Entered again by the process that holds it, it does nothing.
    Temporary files of processes that have ended are removed. File systems without locks are used without.

    Raises UnavailableError, naming the process that works in the folder.
    """
    folder = Path(folder)
    key = os.path.realpath(folder)
    if key in _held:
        yield
        return
    created = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(created):
        place.mkdir(mode, exist_ok=True)
    try:
        with _lock(folder / LOCK_NAME):
            _held.add(key)
            try:
                remove_leftovers(folder)
                yield
            finally:
                _held.remove(key)
    finally:
        with suppress(OSError):
            for place in created:
                place.rmdir()


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the lock of the file, which holds the pid, and remove it before the lock is released."""
    descriptor = _locked_file(path)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked_file(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode(errors="replace").strip()
            os.close(descriptor)
            raise UnavailableError(
                f"Process {shown(holder) or '(just started)'} is working in {path.parent}. Wait until it has ended, or "
                "choose a different folder; nothing was changed."
            ) from None
        except OSError as error:
            _log.warning(
                f"{path.parent} cannot be locked ({error.strerror}); do not start two commands in it."
            )
        # Between opening and locking, the earlier holder may have removed the file.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)
