"""Reading whole files that may be anything: regular files only, within limits, in a known encoding."""

from __future__ import annotations

import codecs
import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from vidom.errors import BadDataError
from vidom.wording import shown

__all__ = ["parse_json", "read_bytes", "read_json", "read_lines", "read_text"]

_MAX_BYTES = 1 << 28
_CHUNK = 1 << 20


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
            # As much memory is claimed as is asked for, which takes time too; files of the kernel have size 0.
            content = stream.read(min(max_bytes, status.st_size or _CHUNK) + 1)
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
    named = "GBK (GB18030)" if encoding == "GB18030" else encoding
    advice = f" It looks like {named}; convert it: iconv -f {encoding} -t UTF-8" if encoding else ""
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

    A line may begin with a byte-order mark, as where files were joined. Raises BadDataError as `read_text` does.
    """
    text = read_text(path, what=what, max_bytes=max_bytes)
    return tuple(line.rstrip("\r").lstrip("\ufeff") for line in text.rstrip().split("\n"))


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
