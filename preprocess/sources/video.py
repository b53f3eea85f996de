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
from preprocess.sources.frames import check_frame_size
from preprocess.tensors.pixels import Image
from vidom.errors import BadDataError

__all__ = ["DEMUXER_OPTIONS", "ShownPicture", "VideoFile"]

# Containers of single videos. Playlists and image sequences stay outside: they could name other files.
DEMUXER_OPTIONS = {
    "format_whitelist": "mov,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,flv,asf,ogg,ivf,gif",
    "protocol_whitelist": "file",
}
"""What FFmpeg may open, whatever a file claims to be."""

_KEPT_BYTES = 1 << 27


class ShownPicture(NamedTuple):
    """A decoded frame as OpenCV orders colours, uint8 [height, width, 3], and when it is shown.

    It appears at `ticks` and stays for `duration` ticks of `tick` seconds each; None where the container does
    not tell.
    """

    bgr: NDArray[np.uint8]
    ticks: int | None
    duration: int
    tick: Fraction | None


class VideoFile:
    """The frames of the first video stream of the file at `path`, in the order they are shown.

    Frames count from 0. They are decoded one after the other from the beginning, never sought, so that
    position k is the k-th frame whatever the timestamps, key frames and frame count in the container say.
    Pixels and positions equal those of cv2.VideoCapture, and rotation metadata is honoured as there.
    Raises BadDataError, naming the file, when it is absent, no video, damaged, or larger than frames may be.
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

        What was decoded to count is kept for `read` up to 128 MiB, so that a short video is decoded once.
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
                f"The video {self.path} holds no frames. Replace it or take it out of the list."
            )
        self._kept = kept
        return count

    def read(self, positions: Iterable[int]) -> Iterator[Image]:
        """Yield the frames at these positions, which must increase strictly and lie below `total_frames`."""
        reformatter = VideoReformatter()
        frames = enumerate(self._kept or self._decode())
        for wanted in positions:
            found = next((frame for position, frame in frames if position == wanted), None)
            if found is None:
                raise BadDataError(
                    f"The video {self.path} ended before frame {wanted}, though it had {self.total_frames} frames "
                    "a moment ago. Something is writing to it; wait and run again."
                )
            yield _rgb(found, reformatter)

    def pictures(self) -> Iterator[ShownPicture]:
        """Yield every frame once, in the order shown; only one is held in memory."""
        reformatter = VideoReformatter()
        for frame in self._decode():
            yield ShownPicture(_upright_bgr(frame, reformatter), frame.pts, frame.duration, frame.time_base)

    def check_length(self) -> None:
        """Do nothing if the file is there and as long as its container announces, else raise BadDataError."""
        if not self.path.is_file():
            raise BadDataError(f"The video {self.path} does not exist. Check --data_root and the list.")
        missing = missing_bytes(self.path)
        if missing:
            raise BadDataError(
                f"The video {self.path} is cut short: {missing} of the bytes that it announces are missing. Replace "
                "it or take it out of the list."
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
            # An absolute path can't be mistaken for a URL.
            path = str(self.path.absolute())
            with av.open(path, metadata_errors="replace", options=DEMUXER_OPTIONS) as container:
                yield from self._whole_packets(container)
        except av.FFmpegError as error:
            raise self._unreadable(error, "") from None

    def _whole_packets(self, container: av.container.InputContainer) -> Iterator[av.Packet[av.VideoStream]]:
        if not container.streams.video:
            raise BadDataError(f"The file {self.path} has no video stream. Take it out of the list.")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise BadDataError(
                f"The video {self.path} is in a format that FFmpeg does not know, or its head is damaged."
            )
        # Samples are prepared in parallel already; threads inside each would only compete.
        stream.thread_type = "NONE"
        check_frame_size(stream.width, stream.height, name=self.name)
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise BadDataError(
                    f"The video {self.path} is cut short or damaged: a packet of it is incomplete. Replace it or "
                    "take it out of the list."
                )
            yield packet

    def _unreadable(self, error: av.FFmpegError, where: str) -> BadDataError:
        return BadDataError(
            f"The file {self.path} cannot be decoded as a video {where}({error.strerror}). It may be cut short, "
            "damaged, or no video at all; replace it or take it out of the list."
        )


def _rgb(frame: av.VideoFrame, reformatter: VideoReformatter) -> Image:
    return np.asarray(cv2.cvtColor(_upright_bgr(frame, reformatter), cv2.COLOR_BGR2RGB), np.uint8)


def _upright_bgr(frame: av.VideoFrame, reformatter: VideoReformatter) -> NDArray[np.uint8]:
    # OpenCV interpolates the colour planes bicubically and on the way to BGR; swscale's way to RGB differs
    # in the last bits for some pixel formats.
    picture = reformatter.reformat(frame, format="bgr24", interpolation="BICUBIC", threads=1)
    plane = picture.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(picture.height, plane.line_size)
    pixels = rows[:, : 3 * picture.width].reshape(picture.height, picture.width, 3)
    turns, rest = divmod(frame.rotation, 90)
    return pixels if rest or not turns else np.rot90(pixels, turns)
