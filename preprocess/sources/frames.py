"""What every source of frames offers, and frames as image files in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from preprocess.sources.image_files import Image, decode_with_opencv
from vidom.bounded_reading import read_bytes
from vidom.errors import BadDataError
from vidom.formats.frame_naming import FrameNaming

__all__ = ["FrameSource", "RawFrames"]

_MAX_IMAGE_BYTES = 1 << 28


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
    """The frames extracted into `folder`, named by `naming`.

    `total_frames` is trusted, as in the original pipelines: files beyond it are ignored. The sample begins `offset`
    frames after the folder's first one, which must exist unless the naming says its number. `decode(content, name=...)`
    decodes the bytes of a file.
    """

    folder: Path
    total_frames: int
    naming: FrameNaming = FrameNaming()
    offset: int = 0
    decode: Callable[..., Image] = decode_with_opencv

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    @cached_property
    def first_index(self) -> int:
        """The number of the first frame; BadDataError as `FrameNaming.first_in` raises it."""
        return self.offset + self.naming.first_in(self.folder, self.offset + self.total_frames)

    def read(self, positions: Iterable[int]) -> Iterator[Image]:
        """Yield the frames at these positions; raises BadDataError for a frame that is missing or damaged."""
        start = self.naming.path(self.folder, self.first_index - self.offset)
        if self.naming.first is None and not start.exists():
            raise self._missing(start)
        for position in positions:
            path = self.naming.path(self.folder, self.first_index + position)
            if not path.exists():
                raise self._missing(path)
            yield self.decode(
                read_bytes(path, what="frame", max_bytes=_MAX_IMAGE_BYTES),
                name=str(path),
            )

    def _missing(self, path: Path) -> BadDataError:
        if self.folder.is_file():
            return BadDataError(
                f"{self.folder} is a file, but the list declares {self.total_frames} frames for it, as lists of frame "
                "folders do. A list of videos has lines of a path and a label only: remove the counts."
            )
        if not self.folder.is_dir():
            return BadDataError(
                f"The frame folder {self.folder} does not exist. Check --data_root and the list, or extract "
                "the frames of this video."
            )
        return BadDataError(
            f"The frame {path} does not exist, but the list declares {self.total_frames} frames from number "
            f"{self.first_index} on for its folder. Extract the frames again, correct the list, or, if the frames are "
            "named differently, set the recipe's dataset.frame_template (such as {:05}.jpg) and dataset.first_frame."
        )
