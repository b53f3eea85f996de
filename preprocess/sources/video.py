"""Frames of a video file, decoded with PyAV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from preprocess.sources.container_end import missing_bytes
from preprocess.sources.image_files import Image, check_frame_size
from vidom.errors import BadDataError

__all__ = ["DEMUXER_OPTIONS", "TimedFrame", "VideoFile"]

# Containers of single videos. Playlists and image sequences are excluded: they could refer to other files.
DEMUXER_OPTIONS = {
    "format_whitelist": "mov,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,flv,asf,ogg,ivf,gif",
    "protocol_whitelist": "file",
}
"""The formats and protocols that FFmpeg may open, regardless of the file name."""

_KEPT_BYTES = 1 << 27


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
    the k-th frame regardless of the timestamps, key frames and frame count in the container. Pixels and positions
    equal those of cv2.VideoCapture, and rotation metadata is applied in the same way. Raises BadDataError, naming
    the file, if it is absent, not a video or damaged, or if its frames are too large.
    """

    first_index = 0

    def __init__(self, path: Path) -> None:
        self.path = path
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
        reformatter = VideoReformatter()
        frames = enumerate(self._kept or self._decode())
        for requested in positions:
            found = next((frame for position, frame in frames if position == requested), None)
            if found is None:
                raise BadDataError(
                    f"The video {self.path} ended before frame {requested}, though {self.total_frames} frames were "
                    "counted before. Another process is writing to it; wait and rerun."
                )
            yield _rgb(found, reformatter)

    def timed_frames(self) -> Iterator[TimedFrame]:
        """Yield every frame once, in the order shown; only one is held in memory."""
        reformatter = VideoReformatter()
        for frame in self._decode():
            yield TimedFrame(_upright_bgr(frame, reformatter), frame.pts, frame.duration, frame.time_base)

    def check_length(self) -> None:
        """Raise BadDataError if the file is absent or shorter than its container declares."""
        if not self.path.is_file():
            raise BadDataError(f"The video {self.path} does not exist. Check --data_root and the list.")
        missing = missing_bytes(self.path)
        if missing:
            raise BadDataError(
                f"The video {self.path} is truncated: it is {missing} bytes shorter than its header declares. Replace "
                "it or remove it from the list."
            )

    def _decode(self) -> Iterator[av.VideoFrame]:
        done = 0
        for packet in self._packets():
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                raise self._unreadable(error, f"after {done} frames ") from None
            for frame in frames:
                check_frame_size(frame.width, frame.height, name=self.name)
                done += 1
                yield frame

    def _packets(self) -> Iterator[av.Packet[av.VideoStream]]:
        self.check_length()
        try:
            # An absolute path cannot be mistaken for a URL.
            path = str(self.path.absolute())
            with av.open(path, metadata_errors="replace", options=DEMUXER_OPTIONS) as container:
                yield from self._intact_packets(container)
        except av.FFmpegError as error:
            raise self._unreadable(error, "") from None

    def _intact_packets(self, container: av.container.InputContainer) -> Iterator[av.Packet[av.VideoStream]]:
        if not container.streams.video:
            raise BadDataError(f"The file {self.path} has no video stream. Remove it from the list.")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise BadDataError(
                f"The video {self.path} is in a format unknown to FFmpeg, or its header is damaged."
            )
        # Samples are prepared in parallel already; decoder threads would only compete.
        stream.thread_type = "NONE"
        check_frame_size(stream.width, stream.height, name=self.name)
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise BadDataError(
                    f"The video {self.path} is truncated or damaged: it has an incomplete packet. Replace it or "
                    "remove it from the list."
                )
            yield packet

    def _unreadable(self, error: av.FFmpegError, where: str) -> BadDataError:
        return BadDataError(
            f"The file {self.path} cannot be decoded as a video {where}({error.strerror}). It may be truncated, "
            "damaged, or not a video; replace it or remove it from the list."
        )


def _rgb(frame: av.VideoFrame, reformatter: VideoReformatter) -> Image:
    return np.asarray(cv2.cvtColor(_upright_bgr(frame, reformatter), cv2.COLOR_BGR2RGB), np.uint8)


def _upright_bgr(frame: av.VideoFrame, reformatter: VideoReformatter) -> NDArray[np.uint8]:
    # OpenCV interpolates the chroma planes bicubically and converts to BGR; swscale's conversion to RGB differs in
    # the last bits for some pixel formats.
    image = reformatter.reformat(frame, format="bgr24", interpolation="BICUBIC", threads=1)
    plane = image.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(image.height, plane.line_size)
    pixels = rows[:, : 3 * image.width].reshape(image.height, image.width, 3)
    turns, rest = divmod(frame.rotation, 90)
    return pixels if rest or not turns else np.rot90(pixels, turns)
