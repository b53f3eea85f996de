"""Whether a video file ends where its own container says, which demuxers pass over in silence."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

__all__ = ["missing_bytes"]

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_MP4_TYPES = frozenset({b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"styp", b"sidx"})
_MAX_BOXES = 100_000
# Writers disagree on whether a last byte of padding counts.
_PADDING = 1


def missing_bytes(path: Path) -> int:
    """Return how many bytes the file lacks of the length that its container announces; 0 where it tells none.

    Matroska and WebM announce the size of their segment (RFC 8794, section 6; RFC 9559), AVI that of its first
    RIFF chunk, MP4 and QuickTime those of their boxes (ISO/IEC 14496-12, section 4.2). Other containers, and
    those written to a stream, which leave the size open, tell nothing.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(12)
        if start[:4] == _EBML:
            end = _matroska_end(stream)
        elif start[:4] == b"RIFF" and start[8:12] == b"AVI ":
            announced = int.from_bytes(start[4:8], "little")
            end = 8 + announced if announced < 0xFFFFFFFF else 0
        elif start[4:8] in _MP4_TYPES:
            end = _boxes_end(stream, size)
        else:
            end = 0
    return end - size if end - size > _PADDING else 0


def _matroska_end(stream: BinaryIO) -> int:
    """Return where the segment behind the EBML header ends, 0 if that is left open."""
    stream.seek(len(_EBML))
    header = _ebml_size(stream)
    if header is None:
        return 0
    stream.seek(header, 1)
    segment = _ebml_size(stream) if stream.read(4) == _SEGMENT else None
    return stream.tell() + segment if segment is not None else 0


def _ebml_size(stream: BinaryIO) -> int | None:
    """Return the size at the stream's place: the first byte's leading zeros count the bytes that follow it."""
    first = stream.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    content = bytes([first[0] & (0xFF >> length)]) + stream.read(length - 1)
    # All bits set: the writer did not know.
    unknown = (1 << 7 * length) - 1
    value = int.from_bytes(content, "big")
    return None if len(content) < length or value == unknown else value


def _boxes_end(stream: BinaryIO, size: int) -> int:
    """Return where the last of the boxes that make up the file ends; what is no known box ends the search."""
    at = 0
    for _ in range(_MAX_BOXES):
        stream.seek(at)
        header = stream.read(16)
        if at >= size or header[4:8] not in _MP4_TYPES:
            return at
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        # 0 means up to the end of the file.
        if length < 8:
            return 0
        at += length
    return 0
