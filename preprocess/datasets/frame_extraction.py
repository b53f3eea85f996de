"""One video to a folder of JPEG frames, as mmaction2's `build_rawframes.py --use-opencv` writes them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocess.sources.decoding import Decoder, decode, decoder_version
from preprocess.sources.frame_folders import frame_numbers
from preprocess.sources.jpeg import check_frame_size
from vidom.errors import BadDataError, UsageError
from vidom.files import TEMP_SUFFIX

__all__ = ["FRAME_TEMPLATE", "Extracted", "ExtractionJob", "ExtractionSettings", "extract_frames", "new_size"]

FRAME_TEMPLATE = "img_{:05}.jpg"


@dataclass(frozen=True)
class ExtractionSettings:
    """How frames are made: 0 as `short_side` keeps their size, None as `fps` keeps every one of them.

    Raises UsageError for values that have no meaning.
    """

    decoder: Decoder = "opencv"
    short_side: int = 0
    quality: int = 95
    fps: float | None = None

    def __post_init__(self) -> None:
        if (
            self.short_side < 0
            or not 1 <= self.quality <= 100
            or (self.fps is not None and not 0 < self.fps <= 1000)
        ):
            raise UsageError(
                "--short_side must be 0 (keep the size) or more, --quality 1 to 100, --fps above 0 and at most "
                f"1000; found {self.short_side}, {self.quality} and {self.fps}."
            )
        if self.fps is not None and self.decoder == "opencv":
            raise UsageError(
                "--fps needs --decoder pyav: OpenCV does not tell reliably when a frame is shown."
            )

    def record(self) -> dict[str, Any]:
        """Return the settings with the versions that the pixels depend on."""
        versions = {"decoder_version": decoder_version(self.decoder), "encoder": f"OpenCV {cv2.__version__}"}
        return asdict(self) | versions


@dataclass(frozen=True)
class ExtractionJob:
    """All that is needed to extract one video anywhere; `id` is unique among the jobs of a run."""

    id: str
    video: Path
    folder: Path
    settings: ExtractionSettings


@dataclass(frozen=True)
class Extracted:
    """What became of the job of this id: the number of frames, or the reason why there are none."""

    id: str
    frames: int
    reason: str | None = None


def extract_frames(job: ExtractionJob) -> Extracted:
    """The job's folder holds all frames of its video, img_00001.jpg onwards, or does not exist.

    It gets its name only when the last frame is written; a folder of that name is whole and only counted. Leftovers
    of a killed run are removed. A video that cannot be read is told in the result, not raised; a full disk raises
    OSError.
    """
    if job.folder.is_dir():
        return Extracted(job.id, frame_numbers(job.folder).frames)
    unfinished = job.folder.with_name(job.folder.name + TEMP_SUFFIX)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        frames = decode(job.video, decoder=job.settings.decoder, fps=job.settings.fps)
        count = _write_frames(frames, unfinished, job)
        unfinished.rename(job.folder)
    except BadDataError as error:
        return Extracted(job.id, 0, str(error))
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Extracted(job.id, count)


def new_size(width: int, height: int, *, short_side: int) -> tuple[int, int]:
    """Return (width, height) with the shorter one `short_side` and the other one scaled and cut to an integer.

    mmaction2's `--new-short` computes `int((short / h) * w)`, unlike its Resize, which rounds.
    """
    if height <= width:
        return int((short_side / height) * width), short_side
    return short_side, int((short_side / width) * height)


def _write_frames(frames: Iterable[NDArray[np.uint8]], folder: Path, job: ExtractionJob) -> int:
    """Write the frames and return how many there were, at least one."""
    count = 0
    # Joined as text: a Path for each frame would cost as much as every tenth frame's decoding.
    prefix = f"{folder}{os.sep}"
    for count, frame in enumerate(frames, 1):
        _write_jpeg(prefix + FRAME_TEMPLATE.format(count), _resized(frame, job), job.settings.quality)
    if not count:
        raise BadDataError(f"The video {job.video} holds no frames. Replace it or take it out of the list.")
    return count


def _resized(frame: NDArray[np.uint8], job: ExtractionJob) -> NDArray[np.uint8]:
    if not job.settings.short_side:
        return frame
    width, height = new_size(frame.shape[1], frame.shape[0], short_side=job.settings.short_side)
    check_frame_size(width, height, name=f"{job.video}, resized,")
    return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _write_jpeg(path: str, picture: NDArray[np.uint8], quality: int) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    # imwrite costs a twentieth less than encoding to memory, but tells no reasons, and where the disk has no
    # room for the last few thousand bytes it even reports success. Writing from here raises what is wrong.
    if not (cv2.imwrite(path, picture, options) and _ends_as_jpeg(path)):
        Path(path).write_bytes(cv2.imencode(".jpg", picture, options)[1].data)


def _ends_as_jpeg(path: str) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        return os.pread(descriptor, 2, max(size - 2, 0)) == b"\xff\xd9"
    finally:
        os.close(descriptor)
