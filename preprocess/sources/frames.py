"""Frames as JPEG files in a folder, and what any source of frames offers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from preprocess.tensors.pixels import Image
from vidom.errors import BadDataError

__all__ = ["MAX_PIXELS", "MAX_SIDE", "FrameSource", "RawFrames", "check_frame_size", "decode_jpeg"]

MAX_SIDE = 16384
MAX_PIXELS = 1 << 26
_MAX_JPEG_BYTES = 1 << 28
_HEADERS_WITH_SIZE = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class FrameSource(Protocol):
    """One video, from wherever its frames come.

    `total_frames` counts what can be sampled; `first_index` is the number that the source's own naming gives
    its first frame (1 for img_00001.jpg, 0 in a video file).
    """

    @property
    def name(self) -> str:
        """Where the frames come from, for messages."""

    @property
    def total_frames(self) -> int:
        """How many frames there are."""

    @property
    def first_index(self) -> int:
        """The number of the first frame."""

    def read(self, positions: Iterable[int]) -> Iterator[Image]:
        """Yield the frames at these positions, which count from 0 and increase strictly."""


def decode_jpeg(content: bytes, *, name: str) -> Image:
    """Return the picture in these JPEG bytes, upright by its EXIF orientation, grey ones as three channels.

    Raises BadDataError, naming `name`, when the bytes are not a JPEG file, stop before the picture does, or hold
    a picture of more than MAX_SIDE by MAX_PIXELS.
    """
    size = _jpeg_size(content)
    if size is None:
        raise BadDataError(
            f"The frame {name} is not a JPEG file: {len(content)} bytes beginning with "
            f"{content[:4].hex(' ') or 'nothing'}. Extract the frames of this video again."
        )
    check_frame_size(*size, name=name)
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise BadDataError(
            f"The frame {name} cannot be decoded: its {len(content)} bytes are cut short or damaged. Extract "
            "the frames of this video again."
        )
    return np.asarray(picture, np.uint8)


def check_frame_size(width: int, height: int, *, name: str) -> None:
    """Do nothing if a frame of this size is read, else raise BadDataError naming `name`."""
    if min(width, height) < 1 or max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise BadDataError(
            f"The frames of {name} measure {width}x{height} pixels. Frames are read up to {MAX_SIDE} pixels "
            f"a side and {MAX_PIXELS} in all; check the file."
        )


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Return (width, height) as the JPEG header tells them, so that no giant is ever decoded."""
    if content[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker in _HEADERS_WITH_SIZE:
            return int.from_bytes(content[at + 7 : at + 9], "big"), int.from_bytes(
                content[at + 5 : at + 7], "big"
            )
        # A marker may be preceded by any number of fill bytes.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return None


@dataclass(frozen=True)
class RawFrames:
    """The frames extracted into `folder`, named by `template` from `first_index` on.

    `total_frames` is trusted, as in the original: files beyond it are never looked at. `decode(content,
    name=...)` makes a picture of a file's bytes.
    """

    folder: Path
    total_frames: int
    template: str = "img_{:05}.jpg"
    first_index: int = 1
    decode: Callable[..., Image] = decode_jpeg

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    def read(self, positions: Iterable[int]) -> Iterator[Image]:
        """Yield the frames at these positions; raises BadDataError for a frame that is missing or damaged."""
        for position in positions:
            yield self.decode(self._bytes(position), name=str(self._file(position)))

    def _file(self, position: int) -> Path:
        return self.folder / self.template.format(self.first_index + position)

    def _bytes(self, position: int) -> bytes:
        path = self._file(position)
        if not path.is_file():
            raise self._missing(path)
        size = path.stat().st_size
        if size > _MAX_JPEG_BYTES:
            raise BadDataError(
                f"The frame {path} has {size} bytes, more than the {_MAX_JPEG_BYTES} that are read."
            )
        return path.read_bytes()

    def _missing(self, path: Path) -> BadDataError:
        if not self.folder.is_dir():
            return BadDataError(
                f"The frame folder {self.folder} does not exist. Check --data_root and the list, or extract "
                "the frames of this video."
            )
        return BadDataError(
            f"The frame {path} does not exist, though {self.total_frames} frames from number "
            f"{self.first_index} on are announced for its folder. Extract the frames again or correct the list."
        )
