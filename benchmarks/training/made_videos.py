"""Made folders of frames, and videos of them, of usual sizes in pixels and bytes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vidom.system.machine import usable_cores

__all__ = ["write_frames", "write_videos"]

_WIDTH, _HEIGHT = 340, 256


def write_frames(folder: Path, *, count: int, frames: int) -> Path:
    """Write `count` folders of JPEG files of 20 to 30 KB, 340x256, and their annotation list, which is returned."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(partial(_write_folder, folder, frames), range(count)))
    return _listed(folder, (f"{number:04} {frames} {number % 10}" for number in range(count)))


def write_videos(folder: Path, *, count: int, frames: int) -> Path:
    """Write `count` H.264 videos of the same frames, and their annotation list, which is returned."""
    import av

    folder.mkdir(parents=True)
    for number in range(count):
        with av.open(str(folder / f"{number:04}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
            for image in _images(number, frames):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
            container.mux(stream.encode())
    return _listed(folder, (f"{number:04}.mp4 {number % 10}" for number in range(count)))


def _listed(folder: Path, lines: Iterator[str]) -> Path:
    path = folder / "list.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _write_folder(root: Path, frames: int, number: int) -> None:
    folder = root / f"{number:04}"
    folder.mkdir(parents=True)
    for place, image in enumerate(_images(number, frames), 1):
        cv2.imwrite(f"{folder}/img_{place:05}.jpg", image, (cv2.IMWRITE_JPEG_QUALITY, 95))


def _images(seed: int, count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield images of a drifting smooth texture with some grain."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (12, 16, 3), np.uint8)
    field = cv2.resize(coarse, (_WIDTH + 2 * count, _HEIGHT + count), interpolation=cv2.INTER_CUBIC)
    for place in range(count):
        grain = random.integers(0, 7, (_HEIGHT, _WIDTH, 1), np.uint8)
        part = field[place : place + _HEIGHT, 2 * place : 2 * place + _WIDTH]
        yield cv2.add(np.ascontiguousarray(part), np.repeat(grain, 3, axis=2)).astype(np.uint8)
