"""Files that are either complete or absent, their checksums, and free disk space."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vidom.errors import UsageError

__all__ = [
    "TEMP_SUFFIX",
    "atomic_path",
    "crc32_file",
    "encode_json",
    "flush_to_disk",
    "free_bytes",
    "human_bytes",
    "parse_bytes",
    "remove_leftovers",
    "sha256_file",
    "write_bytes",
    "write_json",
    "write_text",
]

_log = logging.getLogger(__name__)

TEMP_SUFFIX = ".part"
_TEMPORARY = re.compile(rf"(.*)\.([0-9]{{1,10}}){re.escape(TEMP_SUFFIX)}", re.DOTALL)
_CHUNK = 1 << 20
_UNITS = ("B", "kB", "MB", "GB", "TB")
_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([kMGT]?B)")


@contextmanager
def atomic_path(path: Path | str, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary name next to `path`; rename it to `path` on success, remove it on failure.

    Parent folders are created. The content is on disk before the rename, and temporary files that killed processes left
    for the same `path` are removed. `durable=False` leaves both out, for the many small files of a store or a result
    folder: their checksums are recorded and compared before a later run takes them over.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f"{final.name}.{os.getpid()}{TEMP_SUFFIX}")
    if durable:
        remove_leftovers(final.parent, final.name)
    try:
        yield temporary
        if durable:
            flush_to_disk(temporary)
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Return once the content of the file is on the disk itself, and survives the loss of power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove the temporary files in `folder` (of the file `name` only, if given) whose processes have ended."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            found = _TEMPORARY.fullmatch(entry.name)
            if found and (not name or found[1] == name) and not _is_running(int(found[2])):
                Path(entry.path).unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return pid != os.getpid()


def write_bytes(path: Path | str, content: bytes | memoryview, *, durable: bool = True) -> None:
    """Write `content` to `path` so that no reader ever sees a part of it; `durable` as for `atomic_path`."""
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` as UTF-8 with `\\n` line ends."""
    write_bytes(path, text.encode())


def write_json(path: Path | str, document: Any, *, indent: int | None = 2) -> None:
    """Write `document` to `path` as JSON in the given key order; NaN and infinity raise ValueError."""
    text = json.dumps(document, indent=indent, ensure_ascii=False, allow_nan=False)
    write_bytes(path, encode_json(text + "\n"))


def encode_json(text: str) -> bytes:
    """Return JSON text as UTF-8; the half surrogate pairs in names of undecodable bytes become escapes."""
    return text.encode(errors="backslashreplace")


def _chunks(path: Path | str) -> Iterator[bytes]:
    with Path(path).open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def sha256_file(path: Path | str) -> str:
    """Return the hexadecimal SHA-256 of the file's bytes."""
    digest = hashlib.sha256()
    for chunk in _chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def crc32_file(path: Path | str) -> int:
    """Return the CRC-32 of the file's bytes."""
    crc = 0
    for chunk in _chunks(path):
        crc = zlib.crc32(chunk, crc)
    return crc


def free_bytes(folder: Path | str) -> int:
    """Return the bytes free for this user on the disk that holds `folder`, which need not exist yet."""
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def human_bytes(count: float) -> str:
    """Return `count` bytes in decimal units, as disks are sold: `935.2 GB`."""
    for unit in _UNITS:
        if abs(count) < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise ValueError("unreachable")


def parse_bytes(text: str) -> int:
    """Return the bytes that `2GB`, `1.5 TB` or `800kB` names, in decimal units; UsageError for any other text."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise UsageError(f"invalid size {text!r}; expected a number with {', '.join(_UNITS)}, such as 2GB.")
    return int(float(found[1]) * 1000.0 ** _UNITS.index(found[2]))
