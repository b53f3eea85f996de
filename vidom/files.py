"""Files that are either complete or absent, their checksums, and free disk space."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from vidom.errors import BadDataError, UsageError

__all__ = [
    "TEMP_SUFFIX",
    "append_line",
    "atomic_path",
    "crc32_file",
    "free_bytes",
    "human_bytes",
    "parse_bytes",
    "read_json",
    "read_json_lines",
    "read_lines",
    "sha256_file",
    "write_bytes",
    "write_json",
    "write_text",
]

TEMP_SUFFIX = ".part"
_CHUNK = 1 << 20
_UNITS = ("B", "kB", "MB", "GB", "TB")
_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([kMGT]?B)")


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary name next to `path`; rename it to `path` on success, remove it on failure.

    The temporary name depends on the process only, so that a leftover of a killed run is
    overwritten or ignored, never mistaken for the file itself. Parent folders are created.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f"{final.name}.{os.getpid()}{TEMP_SUFFIX}")
    try:
        yield temporary
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path | str, content: bytes | memoryview) -> None:
    """Write `content` to `path` so that no reader ever sees a part of it."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` as UTF-8 with `\\n` line ends."""
    write_bytes(path, text.encode())


def write_json(path: Path | str, document: Any, *, indent: int | None = 2) -> None:
    """Write `document` to `path` as JSON in the given key order; NaN and infinity raise ValueError."""
    write_text(path, json.dumps(document, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str, *, what: str = "file", max_bytes: int = 1 << 30) -> Any:
    """Return the JSON document in `path`.

    Raises BadDataError, naming `what` the file should have been, when it is absent, larger than `max_bytes`
    or not JSON.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise BadDataError(
                f"The {what} {path} has {size} bytes, more than the {max_bytes} that are read."
            )
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadDataError(f"The {what} {path} does not exist.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadDataError(
            f"The {what} {path} is not valid JSON ({error}). It may have been cut short."
        ) from None


def read_lines(path: Path | str, *, what: str = "file", max_bytes: int = 1 << 28) -> tuple[str, ...]:
    """Return the lines of a UTF-8 text file without line ends; empty lines at the end are dropped.

    Raises BadDataError, naming `what` the file should have been, when it is absent, too large or not text.
    """
    path = Path(path)
    try:
        if path.stat().st_size > max_bytes:
            raise BadDataError(f"The {what} {path} is larger than the {max_bytes} bytes that are read.")
        return tuple(line.rstrip("\r") for line in path.read_text(encoding="utf-8").rstrip().split("\n"))
    except FileNotFoundError:
        raise BadDataError(f"The {what} {path} does not exist.") from None
    except UnicodeDecodeError as error:
        raise BadDataError(f"The {what} {path} is not UTF-8 text ({error}).") from None


def append_line(stream: IO[str], document: Any) -> None:
    """Append `document` to `stream` as one JSON line and flush it."""
    stream.write(json.dumps(document, ensure_ascii=False) + "\n")
    stream.flush()


def read_json_lines(path: Path) -> list[Any]:
    """Return the complete lines of a journal; a last line truncated by a killed writer is dropped."""
    if not path.exists():
        return []
    documents = []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        try:
            documents.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return documents


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
