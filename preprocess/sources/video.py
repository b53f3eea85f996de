"""Frames of a video file, decoded with PyAV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from preprocess.sources.frame_pixels import FramePixels
from preprocess.sources.image_files import Image, check_frame_size
from preprocess.sources.video_container import (
    announced_end,
    open_container,
    sound_packets,
    unreadable,
    video_stream,
)
from vidom.errors import BadDataError

__all__ = ["TimedFrame", "VideoFile"]

_KEPT_BYTES = 1 << 27
# A video may end this many frame intervals, and this part of its duration, before the announced end.
_LATE_FRAMES, _LATE_PART = 5, Fraction(1, 20)


class TimedFrame(NamedTuple):
    """A decoded frame, uint8 [height, width, 3] BGR, with its presentation time.

    It is shown from `ticks` on for `duration` ticks of `tick` seconds each; None where the container has no
    timestamps.
    """

    bgr: NDArray[np.uint8]
    ticks: int | None
    duration: int
    tick: Fraction | None


class VideoFile:
    """The frames of the first video stream of the file at `path`, in the order they are shown.

    Frames count from 0. They are decoded sequentially from the beginning, without seeking, so that position k is
    the k-th frame regardless of the timestamps, key frames and frame count in the container. Pixels are those of
    ffmpeg: turned and mirrored as the track says, converted by the colour matrix that the file declares, or by
    `matrix` (see `preprocess.sources.frame_pixels`).

    Raises BadDataError, naming the file, if it is absent, not a video or damaged: if FFmpeg reports an error or
    conceals one, frames differ in size or are too large, or the last one ends long before the container says so.
    """

    first_index = 0

    def __init__(self, path: Path, *, matrix: int | None = None) -> None:
        self.path = path
        self._pixels = FramePixels(name=self.name, matrix=matrix)
        self._kept: list[av.VideoFrame] = []

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    @cached_property
    def total_frames(self) -> int:
        """The number of frames that can be decoded; the container's own count is often wrong.

        Up to 128 MiB of the frames decoded for counting are kept for `read`, so that a short video is decoded once.
        """
        kept: list[av.VideoFrame] = []
        count = size = 0
        for frame in self._decode():
            count += 1
            size += sum(plane.buffer_size for plane in frame.planes)
            if size <= _KEPT_BYTES:
                kept.append(frame)
            else:
                kept.clear()
        if not count:
            raise BadDataError(
                f"The video {self.path} holds no frames. Replace it or remove it from the list."
            )
        self._kept = kept
        return count

    def read(self, positions: Iterable[int]) -> Iterator[Image]:
        """Yield the frames at these positions, which must increase strictly and be below `total_frames`."""
        frames = enumerate(self._kept or self._decode())
        for requested in positions:
            found = next((frame for position, frame in frames if position == requested), None)
            if found is None:
                raise BadDataError(
                    f"The video {self.path} ended before frame {requested}, though {self.total_frames} frames were "
                    "counted before. Another process is writing to it; wait and rerun."
                )
            yield np.asarray(cv2.cvtColor(self._pixels(found), cv2.COLOR_BGR2RGB), np.uint8)

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """Yield every frame once, uint8 [height, width, 3] BGR, in the order shown; only one is held in memory."""
        for frame in self._decode():
            yield self._pixels(frame)

    def timed_frames(self) -> Iterator[TimedFrame]:
        """Yield `frames` with their times."""
        for frame in self._decode():
            yield TimedFrame(self._pixels(frame), frame.pts, frame.duration, frame.time_base)

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Yield the frames, and raise BadDataError as soon as something is wrong with one, or at the end."""
        with open_container(self.path) as container:
            stream = video_stream(container, self.path)
            # Samples are prepared in parallel already; decoder threads would only compete.
            stream.thread_type = "NONE"
            check_frame_size(stream.width, stream.height, name=self.name)
            end = _End(stream.time_base)
            size: tuple[int, int] | None = None
            for number, frame in enumerate(self._frames(container, stream)):
                if size is None:
                    size = frame.width, frame.height
                    check_frame_size(*size, name=self.name)
                    self._pixels.orient_by(frame)
                self._check(number, frame, size)
                end.add(frame)
                yield frame
            end.check(announced_end(container, stream), self.path)

    def _frames(
        self, container: av.container.InputContainer, stream: av.VideoStream
    ) -> Iterator[av.VideoFrame]:
        done = 0
        try:
            for packet in sound_packets(container, stream, self.path):
                for frame in packet.decode():
                    done += 1
                    yield frame
        except (av.FFmpegError, ValueError) as error:
            raise unreadable(self.path, error, f"after {done} frames ") from None

    def _check(self, number: int, frame: av.VideoFrame, size: tuple[int, int]) -> None:
        if frame.is_corrupt:
            raise BadDataError(
                f"Frame {number} of the video {self.path} is damaged; FFmpeg filled it from other frames. Replace the "
                "video or remove it from the list."
            )
        if (frame.width, frame.height) != size:
            raise BadDataError(
                f"Frame {number} of the video {self.path} measures {frame.width}x{frame.height}, the frames before it "
                f"{size[0]}x{size[1]}. Encode the video again at one size."
            )


class _End:
    """When the last frame ends, and the intervals between frames, in ticks of `tick` seconds."""

    def __init__(self, tick: Fraction | None) -> None:
        self._tick = tick
        self._end = 0
        self._last: int | None = None
        self._intervals: Counter[int] = Counter()
        self._complete = tick is not None

    def add(self, frame: av.VideoFrame) -> None:
        """Take the frame's time into account."""
        shown = frame.pts
        if shown is None:
            self._complete = False
            return
        if self._last is not None:
            self._intervals[shown - self._last] += 1
        elif frame.duration:
            self._intervals[frame.duration] += 1
        self._last = shown
        self._end = max(self._end, shown + frame.duration)

    def check(self, announced: Fraction | None, path: Path) -> None:
        """Raise BadDataError if the frames end long before the announced end, in seconds."""
        if announced is None or not self._complete or self._tick is None or not self._intervals:
            return
        end = self._end * self._tick
        usual = self._intervals.most_common(1)[0][0]
        # Not every container says how long the last frame is shown, which may be as long as one before it.
        late = max(_LATE_FRAMES * usual, *self._intervals) * self._tick
        if announced - end > max(late, _LATE_PART * announced):
            raise BadDataError(
                f"The video {path} is damaged: its header announces {float(announced):.2f} seconds, but its frames end "
                f"after {float(end):.2f}. Replace it or remove it from the list."
            )
