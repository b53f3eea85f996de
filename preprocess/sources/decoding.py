"""All frames of a video, one after the other, with either decoder and at either frame rate."""

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

from preprocess.sources.frames import check_frame_size
from preprocess.sources.video import DEMUXER_OPTIONS, ShownPicture, VideoFile
from vidom.errors import BadDataError, UsageError

__all__ = ["Decoder", "at_constant_rate", "decode", "decoder_version"]

Decoder = Literal["pyav", "opencv"]

_OPENCV_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# A single damaged timestamp could otherwise ask for a disk full of copies of one frame.
_LONGEST_GAP = 600


def decoder_version(decoder: Decoder) -> str:
    """Return the decoder's name and version, as records of data keep it."""
    return f"PyAV {version('av')}" if decoder == "pyav" else f"OpenCV {cv2.__version__}"


def decode(path: Path, *, decoder: Decoder, fps: float | None = None) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of the video in the order shown: uint8 [height, width, 3], blue, green, red.

    A frame's pixels are good until the next one is asked for.
    With `fps` frames are left out or shown again so that this many come per second; PyAV only, since OpenCV's
    timestamps are wrong for some containers (UsageError). Raises BadDataError as VideoFile does; OpenCV by itself
    would end a video that is cut short in silence, so its length is checked beforehand. What remains different
    is damage inside: PyAV raises, OpenCV leaves frames out.
    """
    if decoder == "pyav":
        pictures = VideoFile(path).pictures()
        if fps is None:
            return (picture.bgr for picture in pictures)
        return at_constant_rate(pictures, fps, name=str(path))
    if fps is not None:
        raise UsageError("--fps needs --decoder pyav: OpenCV does not tell reliably when a frame is shown.")
    return _opencv_frames(path)


def at_constant_rate(
    pictures: Iterable[ShownPicture], fps: float, *, name: str
) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures that are shown at 0, 1, 2... times 1/fps seconds after the first one.

    The rule is that of FFmpeg's filter `fps=FPS:round=near`: a picture's place is its time in units of 1/fps,
    rounded half up; the later one of two at one place is taken; a place that nobody has shows the picture
    before. At least one is yielded. Raises BadDataError, naming `name`, for a picture without a time and for
    gaps of more than ten minutes.
    """
    rate = Fraction(fps).limit_denominator(1_000_000)
    held: NDArray[np.uint8] | None = None
    done = end = 0
    first = True
    for picture in pictures:
        place, end = _places(picture, rate, name)
        if held is None:
            done = place
        for _ in range(_checked_gap(place - done, rate, name)):
            yield held  # type: ignore[misc]
            first = False
        done = max(done, place)
        held = picture.bgr
    if held is not None:
        for _ in range(max(_checked_gap(end - done, rate, name), int(first))):
            yield held


def _places(picture: ShownPicture, rate: Fraction, name: str) -> tuple[int, int]:
    """Return the place where the picture appears, and the first one where it no longer is shown."""
    if picture.ticks is None or picture.tick is None:
        raise BadDataError(
            f"A frame of the video {name} has no timestamp, so no constant frame rate can be made of it. Leave "
            "--fps out, or encode the video again."
        )
    half = Fraction(1, 2)
    start = picture.ticks * picture.tick * rate + half
    end = (picture.ticks + picture.duration) * picture.tick * rate + half
    return start.__floor__(), end.__floor__()


def _checked_gap(places: int, rate: Fraction, name: str) -> int:
    if places > _LONGEST_GAP * rate:
        raise BadDataError(
            f"The video {name} has a gap of {float(places / rate):.0f} seconds between two frames, more than the "
            f"{_LONGEST_GAP} that --fps fills. Its timestamps are damaged; encode it again or leave it out."
        )
    return max(places, 0)


def _opencv_frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    VideoFile(path).check_length()
    capture = _opened_by_opencv(path)
    try:
        if not capture.isOpened():
            # PyAV tells why; if it can read the file, it is the decoder to use.
            for _ in VideoFile(path).pictures():
                break
            raise BadDataError(f"OpenCV cannot open the video {path}, PyAV can. Use --decoder pyav.")
        frame: NDArray[np.integer[Any] | np.floating[Any]] | None = None
        while True:
            # Into the same memory again: a twentieth of the time otherwise goes into finding new one.
            more, frame = capture.read(frame)
            if not more:
                return
            check_frame_size(frame.shape[1], frame.shape[0], name=str(path))
            yield np.asarray(frame, np.uint8)
    finally:
        capture.release()


def _opened_by_opencv(path: Path) -> cv2.VideoCapture:
    """Return the capture, opened under the same restrictions as PyAV's; OpenCV takes them from the environment."""
    before = os.environ.get(_OPENCV_OPTIONS)
    os.environ[_OPENCV_OPTIONS] = "|".join(f"{key};{value}" for key, value in DEMUXER_OPTIONS.items())
    try:
        # One thread: videos are decoded in parallel already. An absolute path can't be mistaken for a URL.
        return cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    finally:
        if before is None:
            del os.environ[_OPENCV_OPTIONS]
        else:
            os.environ[_OPENCV_OPTIONS] = before
