"""All frames of a video in order, with either decoder, at the original or a constant frame rate."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocess.sources.video import TimedFrame, VideoFile
from preprocess.sources.video_container import DEMUXER_OPTIONS
from vidom.errors import BadDataError, UsageError

__all__ = ["Decoder", "at_constant_rate", "decode", "decoder_version"]

Decoder = Literal["pyav", "opencv"]

_OPENCV_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# A single damaged timestamp could otherwise fill the disk with copies of one frame.
_LONGEST_GAP = 600
# Levels; rounding gives 0.3, a different colour matrix 3 and more.
_MEAN_DIFFERENCE = 1.0


def decoder_version(decoder: Decoder) -> str:
    """Return the decoder's name and version, as recorded with extracted frames."""
    return f"PyAV {version('av')}" if decoder == "pyav" else f"OpenCV {cv2.__version__}"


def decode(path: Path, *, decoder: Decoder, fps: float | None = None) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of the video in presentation order: uint8 [height, width, 3], BGR.

    The array of a frame is valid until the next iteration. With `fps`, frames are dropped or duplicated to that
    constant rate; this requires PyAV (else UsageError), because OpenCV's timestamps are wrong for some containers.
    Raises BadDataError as VideoFile does, and where a frame of OpenCV is not the one that PyAV decodes: OpenCV 5
    returns unwritten memory for interlaced frames, and other colours for HDR and wide-gamut videos.
    """
    if decoder == "pyav":
        video = VideoFile(path)
        return video.frames() if fps is None else at_constant_rate(video.timed_frames(), fps, name=str(path))
    if fps is not None:
        raise UsageError("--fps requires --decoder pyav: OpenCV's timestamps are not reliable.")
    return _opencv_frames(path)


def at_constant_rate(frames: Iterable[TimedFrame], fps: float, *, name: str) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames that are shown at 0, 1, 2... times 1/fps seconds after the first one.

    The rule is that of FFmpeg's filter `fps=FPS:round=near`: a frame's slot is its time in units of 1/fps, rounded
    half up; of two frames in one slot the later one is used; an empty slot repeats the previous frame. At least one
    frame is yielded. Raises BadDataError, naming `name`, for a frame without a timestamp and for gaps of more than
    ten minutes.
    """
    rate = Fraction(fps).limit_denominator(1_000_000)
    held: NDArray[np.uint8] | None = None
    done = end = 0
    first = True
    for frame in frames:
        slot, end = _slots(frame, rate, name)
        if held is None:
            done = slot
        for _ in range(_checked_gap(slot - done, rate, name)):
            yield held  # type: ignore[misc]
            first = False
        done = max(done, slot)
        held = frame.bgr
    if held is not None:
        for _ in range(max(_checked_gap(end - done, rate, name), int(first))):
            yield held


def _slots(frame: TimedFrame, rate: Fraction, name: str) -> tuple[int, int]:
    """Return the slot in which the frame appears, and the first slot in which it is no longer shown."""
    if frame.ticks is None or frame.tick is None:
        raise BadDataError(
            f"A frame of the video {name} has no timestamp, so it cannot be converted to a constant frame "
            "rate. Omit --fps, or encode the video again."
        )
    half = Fraction(1, 2)
    start = frame.ticks * frame.tick * rate + half
    end = (frame.ticks + frame.duration) * frame.tick * rate + half
    return start.__floor__(), end.__floor__()


def _checked_gap(slots: int, rate: Fraction, name: str) -> int:
    if slots > _LONGEST_GAP * rate:
        raise BadDataError(
            f"The video {name} has a gap of {float(slots / rate):.0f} seconds between two frames; --fps fills "
            f"gaps of up to {_LONGEST_GAP}. Its timestamps are damaged; encode it again or remove it from the list."
        )
    return max(slots, 0)


def _opencv_frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames that OpenCV decodes, each compared with that of PyAV."""
    capture = _opened_by_opencv(path)
    number = -1
    try:
        frame: NDArray[np.integer[Any] | np.floating[Any]] | None = None
        for number, expected in enumerate(VideoFile(path).frames()):
            more, frame = capture.read(frame)
            if not more or not _agree(frame, expected):
                raise _disagreement(path, number)
            yield np.asarray(frame, np.uint8)
        if number >= 0 and capture.read(frame)[0]:
            raise _disagreement(path, number + 1)
    finally:
        capture.release()


def _agree(frame: NDArray[Any], expected: NDArray[np.uint8]) -> bool:
    return (
        frame.shape == expected.shape
        and cv2.norm(frame, expected, cv2.NORM_L1) / frame.size <= _MEAN_DIFFERENCE
    )


def _disagreement(path: Path, number: int) -> BadDataError:
    return BadDataError(
        f"OpenCV {cv2.__version__} does not decode frame {number} of the video {path} as PyAV does: it has different "
        "pixels, or there is none. Use --decoder pyav."
    )


def _opened_by_opencv(path: Path) -> cv2.VideoCapture:
    """Return the capture, opened with the same restrictions as PyAV; OpenCV reads them from the environment."""
    before = os.environ.get(_OPENCV_OPTIONS)
    os.environ[_OPENCV_OPTIONS] = "|".join(f"{key};{value}" for key, value in DEMUXER_OPTIONS.items())
    try:
        # One thread: videos are decoded in parallel already. An absolute path cannot be mistaken for a URL.
        return cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    finally:
        if before is None:
            del os.environ[_OPENCV_OPTIONS]
        else:
            os.environ[_OPENCV_OPTIONS] = before
