"""From a decoded frame to upright BGR pixels, with the colours and the orientation that ffmpeg's own tools give."""

from __future__ import annotations

import av
import numpy as np
from av.video.format import VideoFormat
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from vidom.errors import BadDataError

__all__ = ["BT601", "BT709", "FramePixels"]

# Matrix coefficients by their numbers in ITU-T H.273, table 4.
BT709, BT601 = 1, 6
_UNSPECIFIED, _BT2020, _BT2020_CONSTANT = 2, 9, 10
_CONVERTED = frozenset({0, 1, 2, 4, 5, 6, 7, 9})
# av_display_rotation_get of FFmpeg's libavutil ignores less than a degree.
_SLANT = 0.0175
_UPRIGHT = (False, 1, 1)
# Looking them up by name for each frame takes as long as the rest of Python's part.
_BGR, _BICUBIC = VideoFormat("bgr24"), int(Interpolation.BICUBIC)


class FramePixels:
    """Converts the frames of one video; `matrix` replaces the colour matrix that the file declares.

    Without a declared one BT.601 is used, as in swscale. Transfer characteristics and primaries are not applied: HDR
    and wide-gamut videos keep their code values, as in decord, OpenCV 4 and ffmpeg without further filters.
    """

    def __init__(self, *, name: str, matrix: int | None = None) -> None:
        self._name = name
        self._matrix = matrix
        self._reformatter = VideoReformatter()
        self._orientation = _UPRIGHT

    def orient_by(self, first: av.VideoFrame) -> None:
        """Show all frames as the display matrix of the first one says; a track has one, streams repeat theirs rarely.

        Raises BadDataError, naming the video, for a slanted one.
        """
        # Of one frame only: a frame whose side data were read stays in memory until garbage is collected.
        self._orientation = _orientation(first.side_data.get("DISPLAYMATRIX"), self._name)

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """Return the frame as uint8 [height, width, 3] BGR, turned and mirrored.

        Raises BadDataError, naming the video, if FFmpeg cannot convert it.
        """
        frame.colorspace = _known_matrix(frame.colorspace) if self._matrix is None else self._matrix
        try:
            # OpenCV interpolates the chroma planes bicubically and converts to BGR; swscale's conversion to RGB differs
            # in the last bits for some pixel formats.
            image = self._reformatter.reformat(frame, format=_BGR, interpolation=_BICUBIC, threads=1)  # type: ignore[arg-type]
        except (av.FFmpegError, ValueError) as error:
            raise BadDataError(
                f"The frames of the video {self._name} ({frame.format.name if frame.format else 'unknown'}) cannot be "
                f"converted to RGB ({error}). Encode it again or remove it from the list."
            ) from None
        plane = image.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(image.height, plane.line_size)
        pixels = rows[:, : 3 * image.width].reshape(image.height, image.width, 3)
        transposed, down, across = self._orientation
        return (pixels.swapaxes(0, 1) if transposed else pixels)[::down, ::across]


def _orientation(matrix: object, name: str) -> tuple[bool, int, int]:
    """Return whether rows and columns are exchanged, and then the steps in which rows and columns are shown."""
    if matrix is None:
        return _UPRIGHT
    # ISO/IEC 14496-12, 8.5.2: a point (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].astype(np.float64)  # type: ignore[call-overload]
    straight, turned = np.hypot(a, d), np.hypot(b, c)
    if not straight and not turned:
        return _UPRIGHT  # written by some cameras instead of the identity
    if min(straight, turned) > _SLANT * max(straight, turned):
        raise BadDataError(
            f"The frames of the video {name} are to be shown at a slant: its track matrix is neither a turn by a right "
            "angle nor a mirror image. Encode it upright or remove it from the list."
        )
    across, down = (a, d) if straight > turned else (c, b)
    return bool(turned > straight), -1 if down < 0 else 1, -1 if across < 0 else 1


def _known_matrix(matrix: int) -> int:
    """Return a matrix that swscale converts by: that of ffmpeg's scale filter for all others, which it refuses."""
    if matrix == _BT2020_CONSTANT:
        return _BT2020
    return matrix if matrix in _CONVERTED else _UNSPECIFIED
