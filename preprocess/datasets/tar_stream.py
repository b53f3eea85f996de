"""Read a multi-part `tar.gz` sequentially, without trusting its content."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from vidom.errors import BadDataError

__all__ = ["TarMember", "tar_members"]

_BLOCK = 512
_CHUNK = 1 << 20
# Extended headers with long names and times; far larger than any real one.
_MAX_EXTENSION = 1 << 20
# Videos are compressed already; an archive that expands much more is an attack that fills the disk.
_MAX_EXPANSION, _ALWAYS_ALLOWED = 20, 1 << 26
_FILE, _FOLDER, _EXTENSION = (b"0", b"\0", b"7"), (b"5",), (b"x", b"g", b"L", b"K")
_OCTAL = re.compile(rb"[ \0]*([0-7]{1,12})[ \0]*")


class TarMember:
    """A regular file of the archive, whose content can be read once, before the next member."""

    def __init__(self, name: str, size: int, archive: _Archive) -> None:
        self.name = name
        self.size = size
        self._archive = archive
        self._left = size

    def chunks(self) -> Iterator[bytes]:
        """Yield the content not read yet, at most 1 MiB at a time; raises BadDataError if it is truncated."""
        while self._left:
            chunk = self._archive.read(min(_CHUNK, self._left))
            self._left -= len(chunk)
            yield chunk


def tar_members(
    parts: Sequence[Path], *, on_bytes: Callable[[int], object] = lambda count: None
) -> Iterator[TarMember]:
    """Yield the regular files of the tar.gz that consists of the concatenated `parts`.

    Memory stays below a few MiB regardless of the archive's headers. `on_bytes` is called with the number of
    compressed bytes read. Raises BadDataError for an archive that is truncated or not a tar.gz, that expands to more
    than 64 MiB plus twenty times its size, or that has members which do not belong in an archive of videos: links,
    devices, and paths that are absolute or contain `..`.
    """
    limit = _ALWAYS_ALLOWED + _MAX_EXPANSION * sum(part.stat().st_size for part in parts)
    with (
        io.BufferedReader(_Parts(parts, on_bytes), _CHUNK) as joined,
        gzip.GzipFile(fileobj=joined) as stream,
    ):
        archive = _Archive(stream, parts)
        total = 0
        while (header := archive.read(_BLOCK)).strip(b"\0"):
            try:
                member = TarMember(_name(header), _size(header), archive)
                total += _BLOCK + member.size
                if total > limit:
                    raise ValueError(f"they expand to more than {limit} bytes")
                regular = _is_regular_file(header[156:157], member)
            except ValueError as error:
                raise archive.rejection(error) from None
            if regular:
                yield member
            for _ in member.chunks():
                pass
            archive.read(-member.size % _BLOCK)


def _is_regular_file(kind: bytes, member: TarMember) -> bool:
    """Return whether the member is a regular file; raises ValueError for members that are not allowed."""
    if kind in _EXTENSION and member.size > _MAX_EXTENSION:
        raise ValueError(f"an extended header of {member.size} bytes")
    if kind not in _FILE + _FOLDER + _EXTENSION:
        raise ValueError(
            f"the member {member.name!r} is a link, device or other special file (type {kind!r})"
        )
    path = PurePosixPath(member.name)
    if kind in _FILE and (path.is_absolute() or ".." in path.parts):
        raise ValueError(f"the member {member.name!r} leaves the folder")
    return kind in _FILE


def _name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return (prefix + b"/" + name if prefix else name).decode("utf-8", "replace")


def _size(header: bytes) -> int:
    size, checksum = _OCTAL.fullmatch(header[124:136]), _OCTAL.fullmatch(header[148:156])
    if not size or not checksum or sum(header[:148] + b" " * 8 + header[156:]) != int(checksum[1], 8):
        raise ValueError("a header is damaged")
    return int(size[1], 8)


class _Archive:
    """The decompressed bytes of the archive; every fault of the compressed ones raises BadDataError."""

    def __init__(self, stream: gzip.GzipFile, parts: Sequence[Path]) -> None:
        self._stream = stream
        self._parts = parts

    def read(self, count: int) -> bytes:
        """Return exactly `count` bytes or raise BadDataError."""
        content = b""
        try:
            while len(content) < count:
                more = self._stream.read(count - len(content))
                if not more:
                    raise EOFError
                content += more
        except EOFError:
            raise BadDataError(
                f"The archive {self._parts[0].name} to {self._parts[-1].name} ends too early. A part is missing or "
                "truncated; compare the sizes with the download page. Unpacked videos are kept."
            ) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise self.rejection(error) from None
        return content

    def rejection(self, reason: Exception) -> BadDataError:
        return BadDataError(
            f"The parts {self._parts[0]} to {self._parts[-1].name} are not a tar.gz of videos: {reason}. Download "
            "them again."
        )


class _Parts(io.RawIOBase):
    """Several files as one stream; one file is open at a time."""

    def __init__(self, parts: Sequence[Path], on_bytes: Callable[[int], object]) -> None:
        self._waiting = iter(parts)
        self._open: io.FileIO | None = None
        self._on_bytes = on_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        while True:
            count = self._open.readinto(buffer) if self._open else 0
            if count:
                self._on_bytes(count)
                return count
            self._next()
            if self._open is None:
                return 0

    def _next(self) -> None:
        self.close_part()
        part = next(self._waiting, None)
        self._open = io.FileIO(part) if part else None

    def close_part(self) -> None:
        if self._open:
            self._open.close()

    def close(self) -> None:
        self.close_part()
        super().close()
