"""Extract one video to a folder of JPEG frames, named and numbered as by mmaction2's `build_rawframes.py`."""

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
from preprocess.sources.image_files import check_frame_size
from vidom.errors import BadDataError, UsageError
from vidom.files import TEMP_SUFFIX

__all__ = ["FRAME_TEMPLATE", "Extracted", "ExtractionJob", "ExtractionSettings", "extract_frames", "new_size"]

FRAME_TEMPLATE = "img_{:05}.jpg"


@dataclass(frozen=True)
class ExtractionSettings:
    """How frames are extracted: `short_side` 0 keeps their size, `fps` None keeps every frame.

    Raises UsageError for invalid values.
    """

    decoder: Decoder = "pyav"
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
            raise UsageError("--fps requires --decoder pyav: OpenCV's timestamps are not reliable.")

    def record(self) -> dict[str, Any]:
        """Return the settings and the library versions on which the pixels depend."""
        versions = {"decoder_version": decoder_version(self.decoder), "encoder": f"OpenCV {cv2.__version__}"}
        return asdict(self) | versions


@dataclass(frozen=True)
class ExtractionJob:
    """Everything that a worker needs to extract one video; `id` is unique among the jobs of a run."""

    id: str
    video: Path
    folder: Path
    settings: ExtractionSettings


@dataclass(frozen=True)
class Extracted:
    """The result of the job `id`: the number of frames, or the reason why there are none."""

    id: str
    frames: int
    reason: str | None = None


def extract_frames(job: ExtractionJob) -> Extracted:
    """Write all frames of the job's video to its folder, from img_00001.jpg on, and return their number.

    The folder gets its name only after the last frame is written; an existing folder of that name is complete and is
    only counted. Leftovers of an interrupted run are removed. For an unreadable video the result holds the reason and
    there is no folder; a full disk raises OSError.
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
    """Return (width, height) with the shorter one equal to `short_side` and the other one scaled and truncated.

    mmaction2's `--new-short` computes `int((short / h) * w)`, unlike its Resize, which rounds.
    """
    if height <= width:
        return int((short_side / height) * width), short_side
    return short_side, int((short_side / width) * height)


def _write_frames(frames: Iterable[NDArray[np.uint8]], folder: Path, job: ExtractionJob) -> int:
    """Write the frames and return their number, at least one."""
    count = 0
    # A string instead of a Path: a Path per frame would cost a tenth of the time of decoding.
    prefix = f"{folder}{os.sep}"
    for frame in frames:
        count += 1
        _write_jpeg(prefix + FRAME_TEMPLATE.format(count), _resized(frame, job), job.settings.quality)
        # Before the next frame is decoded: it takes the same memory, which the processor still has in its cache.
        del frame
    if not count:
        raise BadDataError(f"The video {job.video} holds no frames. Replace it or remove it from the list.")
    return count


def _resized(frame: NDArray[np.uint8], job: ExtractionJob) -> NDArray[np.uint8]:
    if not job.settings.short_side:
        return frame
    width, height = new_size(frame.shape[1], frame.shape[0], short_side=job.settings.short_side)
    check_frame_size(width, height, name=f"{job.video}, resized,")
    return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _write_jpeg(path: str, image: NDArray[np.uint8], quality: int) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    # imwrite takes a twentieth less time than encoding to memory, but reports no reasons, and even reports success if
    # the disk has no space for the last few thousand bytes. Writing from Python raises the error.
    if not (cv2.imwrite(path, image, options) and _ends_as_jpeg(path)):
        Path(path).write_bytes(cv2.imencode(".jpg", image, options)[1].data)


def _ends_as_jpeg(path: str) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        return os.pread(descriptor, 2, max(size - 2, 0)) == b"\xff\xd9"
    finally:
        os.close(descriptor)
