"""The frames of a video from other decoders and resizers, to measure the effect of replacing one of them.

Files rarely declare their colour matrix. Software decoders then assume BT.601, others BT.709 for large frames: the
same file has different colours. Where a file declares BT.709, OpenCV 4, with which mmaction2 extracts frames, ignores
it; decord, ffmpeg and OpenCV 5 do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np

from preprocess.sources.decoding import decode
from preprocess.sources.frame_pixels import BT601, BT709
from preprocess.sources.frames import FrameSource
from preprocess.sources.image_files import Image
from preprocess.sources.video import VideoFile
from preprocess.tensors.pillow_pixels import resize_with_pillow
from preprocess.tensors.pipelines import PIPELINES, resized_frames
from preprocess.tensors.pixels import resize
from vidom.errors import UsageError
from vidom.formats.views import ViewPlan

__all__ = ["ALTERNATIVES", "alternative", "alternatives_to"]

ALTERNATIVES = MappingProxyType(
    {
        "decoder=opencv": "cv2.VideoCapture",
        "decoder=bt601": "as mmaction2 extracted: colours by BT.601 regardless of the file's metadata, as in OpenCV 4",
        "decoder=bt709": "colours by BT.709, the matrix of HD, regardless of the file's metadata",
        "decoder=jpeg": "frames extracted to JPEG files of quality 95",
        "resizer=opencv": "OpenCV's bilinear resize, without antialiasing",
        "resizer=pillow": "Pillow's bilinear resize, with antialiasing",
    }
)
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class _Decoded:
    """A video whose frames are yielded in order by `frames(path)`."""

    path: Path
    frames: Callable[[Path], Iterator[Image]]
    first_index: int = 0

    @property
    def name(self) -> str:
        return str(self.path)

    @cached_property
    def total_frames(self) -> int:
        return sum(1 for _ in self.frames(self.path))

    def read(self, positions: Iterable[int]) -> Iterator[Image]:
        decoded = enumerate(self.frames(self.path))
        for requested in positions:
            yield next(frame for position, frame in decoded if position == requested)


@dataclass(frozen=True)
class _Changed:
    """The frames of `source`, each passed through `change`."""

    source: FrameSource
    change: Callable[[Image], Image]

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def total_frames(self) -> int:
        return self.source.total_frames

    @property
    def first_index(self) -> int:
        return self.source.first_index

    def read(self, positions: Iterable[int]) -> Iterator[Image]:
        return map(self.change, self.source.read(positions))


def alternatives_to(plan: ViewPlan) -> tuple[str, ...]:
    """Return the names of ALTERNATIVES that differ from the plan's own pipeline."""
    own = f"resizer={PIPELINES[plan.pipeline].library}"
    return tuple(name for name in ALTERNATIVES if name != own)


def alternative(name: str, video: Path, plan: ViewPlan) -> FrameSource:
    """Return the frames of the video with one step of the plan's pipeline replaced by the alternative `name`.

    If that is the resizer, the frames already have the pipeline's size, so that it does not resize them again.
    Raises UsageError for a name that is not in ALTERNATIVES, BadDataError as `VideoFile` does.
    """
    if name not in ALTERNATIVES:
        raise UsageError(f"Unknown alternative {name!r}; known: {', '.join(ALTERNATIVES)}.")
    usual = VideoFile(video)
    match name:
        case "decoder=opencv":
            return _Decoded(video, _opencv)
        case "decoder=bt601":
            return VideoFile(video, matrix=BT601)
        case "decoder=bt709":
            return VideoFile(video, matrix=BT709)
        case "decoder=jpeg":
            return _Changed(usual, partial(_through_jpeg, decoder=PIPELINES[plan.pipeline].decode_image))
    height, width = next(resized_frames(usual, [0], plan)).shape[:2]
    resizer = resize if name == "resizer=opencv" else resize_with_pillow
    return _Changed(usual, partial(resizer, width=width, height=height))


def _opencv(path: Path) -> Iterator[Image]:
    for frame in decode(path, decoder="opencv"):
        yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)


def _through_jpeg(image: Image, *, decoder: Callable[..., Image]) -> Image:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
    return decoder(content, name="a frame encoded in memory")
