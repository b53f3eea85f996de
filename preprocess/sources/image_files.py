"""JPEG and PNG files to RGB frames, with OpenCV or Pillow, and the size limits of frames."""

from __future__ import annotations

import io
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from vidom.errors import BadDataError

__all__ = ["MAX_PIXELS", "MAX_SIDE", "Image", "check_frame_size", "decode_with_opencv", "decode_with_pillow"]

Image = NDArray[np.uint8]
"""A frame: uint8 [height, width, 3], RGB."""

MAX_SIDE = 16384
MAX_PIXELS = 1 << 26
_PNG = b"\x89PNG\r\n\x1a\n"
_MARKERS_WITH_SIZE = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def decode_with_opencv(content: bytes, *, name: str) -> Image:
    """Return the image in the bytes of a JPEG or PNG file as OpenCV decodes it: grey as three channels, eight bits.

    EXIF orientation is applied, transparency ignored. Raises BadDataError, naming the frame `name`, if the bytes are
    neither, are truncated, or hold an image larger than MAX_SIDE per side or MAX_PIXELS.
    """
    return _opencv(content, name, cv2.IMREAD_COLOR_RGB)


def decode_with_pillow(content: bytes, *, name: str) -> Image:
    """Return the image in the bytes of a JPEG or PNG file as Pillow decodes it; EXIF orientation is not applied.

    Raises BadDataError as `decode_with_opencv` does.
    """
    if content.startswith(_PNG):
        # PNG is lossless: both decoders agree, but Pillow saturates grey of 16 bits and fills up missing rows.
        return _opencv(content, name, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        with pillow.open(io.BytesIO(content), formats=("JPEG",)) as image:
            check_frame_size(*image.size, name=name)
            return np.asarray(image.convert("RGB"), np.uint8)
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        raise BadDataError(
            f"The frame {name} cannot be decoded ({str(error)[:200]}): its {len(content)} bytes are not a JPEG or PNG "
            "file, or are truncated or damaged. Extract the frames of this video again."
        ) from None


def _opencv(content: bytes, name: str, flags: int) -> Image:
    size = _png_size(content, name) if content.startswith(_PNG) else _jpeg_size(content)
    if size is None:
        raise BadDataError(
            f"The frame {name} is neither a JPEG nor a PNG file: {len(content)} bytes beginning with "
            f"{content[:4].hex(' ') or 'nothing'}. Extract the frames of this video again."
        )
    check_frame_size(*size, name=name)
    image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if image is None:
        raise _damaged(content, name)
    return np.asarray(image, np.uint8)


def check_frame_size(width: int, height: int, *, name: str) -> None:
    """Raise BadDataError, naming `name`, if frames of this size are not supported."""
    if min(width, height) < 1 or max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise BadDataError(
            f"The frames of {name} measure {width}x{height} pixels. The maximum is {MAX_SIDE} pixels "
            f"per side and {MAX_PIXELS} in total; check the file."
        )


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Return (width, height) from the JPEG header, so that oversized images are rejected before decoding."""
    if content[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker in _MARKERS_WITH_SIZE:
            height, width = (int.from_bytes(content[at + n : at + n + 2], "big") for n in (5, 7))
            return width, height
        # A marker may be preceded by any number of fill bytes.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return None


def _png_size(content: bytes, name: str) -> tuple[int, int]:
    """Return (width, height) of a PNG file after comparing all checksums; decoders return part of a damaged image.

    Source: PNG specification, third edition, sections 5.2 to 5.4.
    """
    at, kind = len(_PNG), b""
    while kind != b"IEND":
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(content) or zlib.crc32(content[at + 4 : end - 4]) != int.from_bytes(
            content[end - 4 : end], "big"
        ):
            raise _damaged(content, name)
        at = end
    width, height = (int.from_bytes(content[start : start + 4], "big") for start in (16, 20))
    return width, height


def _damaged(content: bytes, name: str) -> BadDataError:
    return BadDataError(
        f"The frame {name} cannot be decoded: its {len(content)} bytes are truncated or damaged. Extract the frames of "
        "this video again."
    )
