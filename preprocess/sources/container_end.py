"""Detect video files that are shorter than their container declares, which demuxers do not report."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

__all__ = ["missing_bytes"]

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_MP4_TYPES = frozenset({b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"styp", b"sidx"})
_MAX_BOXES = 100_000
# Writers disagree on whether a trailing padding byte counts.
_PADDING = 1


def missing_bytes(path: Path) -> int:
    """Return how many bytes shorter the file is than its container declares; 0 if no length is declared.

    Matroska and WebM declare the size of their segment (RFC 8794, section 6; RFC 9559), AVI that of its first
    RIFF chunk, MP4 and QuickTime those of their boxes (ISO/IEC 14496-12, section 4.2). Other containers, and
    those written to a stream with an unknown size, declare nothing.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(12)
        if start[:4] == _EBML:
            end = _matroska_end(stream)
        elif start[:4] == b"RIFF" and start[8:12] == b"AVI ":
            declared = int.from_bytes(start[4:8], "little")
            end = 8 + declared if declared < 0xFFFFFFFF else 0
        elif start[4:8] in _MP4_TYPES:
            end = _boxes_end(stream, size)
        else:
            end = 0
    return end - size if end - size > _PADDING else 0


def _matroska_end(stream: BinaryIO) -> int:
    """Return the offset at which the segment after the EBML header ends, 0 if its size is unknown."""
    stream.seek(len(_EBML))
    header = _ebml_size(stream)
    if header is None:
        return 0
    stream.seek(header, 1)
    segment = _ebml_size(stream) if stream.read(4) == _SEGMENT else None
    return stream.tell() + segment if segment is not None else 0


def _ebml_size(stream: BinaryIO) -> int | None:
    """Return the size encoded at the stream's position; the first byte's leading zeros count the bytes that follow."""
    first = stream.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    content = bytes([first[0] & (0xFF >> length)]) + stream.read(length - 1)
    # All bits set means that the writer did not know the size.
    unknown = (1 << 7 * length) - 1
    value = int.from_bytes(content, "big")
    return None if len(content) < length or value == unknown else value


def _boxes_end(stream: BinaryIO, size: int) -> int:
    """Return the offset at which the last top-level box ends; an unknown box type ends the search."""
    at = 0
    for _ in range(_MAX_BOXES):
        stream.seek(at)
        header = stream.read(16)
        if at >= size or header[4:8] not in _MP4_TYPES:
            return at
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        # A length of 0 means up to the end of the file.
        if length < 8:
            return 0
        at += length
    return 0
