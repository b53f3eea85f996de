"""Small encoded videos, and files that only look like videos."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np

CODECS = {".webm": "libvpx", ".avi": "mpeg4", ".mp4": "mpeg4"}


def write_video(path: Path, *, frames: int = 8, size: tuple[int, int] = (32, 24), seed: int = 0) -> Path:
    """Write drifting noise in the usual codec of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    generator = np.random.default_rng(seed)
    field = cv2.resize(generator.integers(0, 256, (9, 9, 3), np.uint8), (width + frames, height + frames))
    with av.open(str(path), "w") as container:
        options = {"cpu-used": "8", "deadline": "realtime"} if path.suffix == ".webm" else {}
        stream = container.add_stream(CODECS[path.suffix], rate=12, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for first in range(frames):
            image = np.ascontiguousarray(field[first : first + height, first : first + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def cut(path: Path) -> Path:
    """Truncate the file to its first two thirds."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


def write_without_frames(path: Path) -> Path:
    """Write a valid container whose video stream never gets a frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("libvpx", rate=12)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        container.start_encoding()
    return path


def opencv_frames(path: Path) -> list[np.ndarray]:
    """Return the BGR frames of cv2.VideoCapture."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        more, frame = capture.read()
        if not more:
            return frames
        frames.append(frame)


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below the folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
