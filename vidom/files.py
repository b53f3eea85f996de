"""Files that are either complete or absent, bounded reading, folder locks, checksums, and free disk space."""

from __future__ import annotations

import codecs
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from vidom.errors import BadDataError, UnavailableError, UsageError
from vidom.wording import shown

__all__ = [
    "LOCK_NAME",
    "TEMP_SUFFIX",
    "append_line",
    "atomic_path",
    "crc32_file",
    "encode_json",
    "flush_to_disk",
    "free_bytes",
    "human_bytes",
    "locked_folder",
    "open_journal",
    "parse_bytes",
    "parse_json",
    "read_bytes",
    "read_json",
    "read_json_lines",
    "read_lines",
    "read_text",
    "remove_leftovers",
    "sha256_file",
    "write_bytes",
    "write_json",
    "write_text",
]

_log = logging.getLogger(__name__)

LOCK_NAME = ".lock"
TEMP_SUFFIX = ".part"
_TEMPORARY = re.compile(rf"(.*)\.([0-9]{{1,10}}){re.escape(TEMP_SUFFIX)}", re.DOTALL)
_MAX_BYTES = 1 << 28
_held: set[str] = set()
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


def read_bytes(path: Path | str, *, what: str = "file", max_bytes: int = _MAX_BYTES) -> bytes:
    """Return the content of a regular file of at most `max_bytes` bytes.

    Raises BadDataError, naming `what` the file should have been, when it is absent, too large, or a folder, a pipe or a
    device, which is not read.
    """
    path = Path(path)
    try:
        # A pipe without a writer would block the opening.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BadDataError(f"The {what} {path} is not a regular file.")
            # As much memory is claimed as is asked for; files of the kernel have size 0.
            content = stream.read(min(max_bytes, max(status.st_size, _CHUNK)) + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise BadDataError(f"The {what} {path} does not exist.") from None
    except ValueError:
        raise BadDataError(
            f"The {what} cannot be read: its name {str(path)!r} holds a null character."
        ) from None
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR, errno.ENXIO):
            raise
        raise BadDataError(f"The {what} {shown(path)} cannot be read: {error.strerror}.") from None
    if len(content) > max_bytes:
        raise BadDataError(f"The {what} {path} has more than the {max_bytes} bytes that are read.")
    return content


def read_text(path: Path | str, *, what: str = "file", max_bytes: int = _MAX_BYTES) -> str:
    """Return the content of a UTF-8 text file, without the byte-order mark that it may begin with.

    Raises BadDataError as `read_bytes` does, and for a different encoding, which the message names where it is
    recognized.
    """
    content = read_bytes(path, what=what, max_bytes=max_bytes)
    try:
        text = content.decode("utf-8-sig")
        if "\0" not in text:
            return text
        found = "it holds null characters"
    except UnicodeDecodeError as error:
        found = f"the byte at {error.start} is {content[error.start]:#04x}"
    encoding = _other_encoding(content)
    advice = f" It looks like {encoding}; convert it: iconv -f {encoding} -t UTF-8" if encoding else ""
    raise BadDataError(f"The {what} {path} is not UTF-8 text: {found}.{advice}")


def _other_encoding(content: bytes) -> str | None:
    sample = content[: 1 << 16]
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    zeros = [sample[offset::2].count(0) for offset in (0, 1)]
    if max(zeros) > len(sample) // 8:
        return "UTF-16LE" if zeros[1] > zeros[0] else "UTF-16BE"
    try:
        codecs.getincrementaldecoder("gb18030")().decode(sample)
    except UnicodeDecodeError:
        return None
    return None if 0 in sample else "GB18030"


def read_lines(path: Path | str, *, what: str = "file", max_bytes: int = _MAX_BYTES) -> tuple[str, ...]:
    """Return the lines of a UTF-8 text file without line ends; empty lines at the end are dropped.

    Raises BadDataError as `read_text` does.
    """
    text = read_text(path, what=what, max_bytes=max_bytes)
    return tuple(line.rstrip("\r") for line in text.rstrip().split("\n"))


def read_json(path: Path | str, *, what: str = "file", max_bytes: int = _MAX_BYTES) -> Any:
    """Return the JSON document in `path`.

    Raises BadDataError as `read_text` does, and when the text is not JSON, which knows neither NaN nor Infinity, or
    holds numbers of thousands of digits or thousands of nested brackets.
    """
    text = read_text(path, what=what, max_bytes=max_bytes)
    try:
        return parse_json(text)
    except ValueError as error:
        raise BadDataError(
            f"The {what} {path} is not valid JSON ({error}). It may have been cut short."
        ) from None


def parse_json(text: str | bytes) -> Any:
    """Return the JSON document in `text`; ValueError for anything else, and for what exhausts Python's limits."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("too many nested brackets") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def append_line(stream: IO[str], document: Any) -> None:
    """Append `document` to `stream` as one JSON line and flush it."""
    stream.write(json.dumps(document, ensure_ascii=False) + "\n")
    stream.flush()


def read_json_lines(path: Path) -> list[Any]:
    """Return the complete lines of a journal, up to the first that is damaged or cut short; [] if it is absent."""
    if not path.exists():
        return []
    documents = []
    for line in read_bytes(path, what="journal").split(b"\n")[:-1]:
        try:
            documents.append(parse_json(line.decode()))
        except ValueError:
            break
    return documents


def open_journal(path: Path, documents: Iterable[Any]) -> IO[str]:
    """Write the journal anew with `documents`, one a line, and return it open for `append_line`.

    A line that a killed process cut short is thereby gone, and the next one does not continue it.
    """
    lines = "".join(f"{json.dumps(document, ensure_ascii=False)}\n" for document in documents)
    write_bytes(path, encode_json(lines))
    return path.open("a", encoding="utf-8", errors="backslashreplace")


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
