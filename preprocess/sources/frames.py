"""What every source of frames offers, and frames as JPEG files in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from preprocess.sources.image_files import Image, decode_jpeg
from vidom.errors import BadDataError

__all__ = ["FrameSource", "RawFrames"]

_MAX_JPEG_BYTES = 1 << 28


class FrameSource(Protocol):
    """The frames of one video, from a file, a folder or memory.

    `total_frames` counts the frames that can be sampled; `first_index` is the number of the first frame in the
    source's own naming (1 for img_00001.jpg, 0 in a video file).
    """

    @property
    def name(self) -> str:
        """Where the frames come from, for messages."""

    @property
    def total_frames(self) -> int:
        """The number of frames."""

    @property
    def first_index(self) -> int:
        """The number of the first frame."""

    def read(self, positions: Iterable[int]) -> Iterator[Image]:
        """Yield the frames at these positions, which count from 0 and increase strictly."""


@dataclass(frozen=True)
class RawFrames:
    """The frames extracted into `folder`, named by `template` from `first_index` on.

    `total_frames` is trusted, as in the original pipelines: files beyond it are ignored. `decode(content, name=...)`
    decodes the bytes of a file.
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
            raise BadDataError(f"The frame {path} has {size} bytes; the maximum is {_MAX_JPEG_BYTES}.")
        return path.read_bytes()

    def _missing(self, path: Path) -> BadDataError:
        if not self.folder.is_dir():
            return BadDataError(
                f"The frame folder {self.folder} does not exist. Check --data_root and the list, or extract "
                "the frames of this video."
            )
        return BadDataError(
            f"The frame {path} does not exist, but the list declares {self.total_frames} frames from number "
            f"{self.first_index} on for its folder. Extract the frames again or correct the list."
        )
