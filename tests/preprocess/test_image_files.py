"""JPEG decoding with OpenCV and Pillow."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from preprocess.sources.image_files import decode_with_opencv, decode_with_pillow
from vidom.errors import BadDataError


def with_orientation(content: bytes, orientation: int) -> bytes:
    """Return the JPEG with an EXIF header that holds only the orientation (tag 0x0112)."""
    directory = struct.pack("<H", 1) + struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0) + bytes(4)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + directory
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:]


def jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image)[1].tobytes()


def small_jpeg() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 12)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def pixels() -> np.ndarray:
    """A smooth BGR image, 48 wide and 32 high, different from its rotations."""
    ramp = np.linspace(0, 255, 48 * 32).reshape(32, 48)
    return np.dstack([ramp, ramp[::-1], np.full_like(ramp, 60)]).astype(np.uint8)


def test_channels_are_rgb(pixels: np.ndarray) -> None:
    image = decode_with_opencv(jpeg(pixels), name="x")
    assert image.shape == (32, 48, 3)
    assert abs(image[..., 0].astype(int) - 60).max() < 8
    assert abs(image[..., 2].astype(int) - pixels[..., 0]).max() < 24


def test_a_grey_jpeg_has_three_equal_channels(pixels: np.ndarray) -> None:
    image = decode_with_opencv(jpeg(pixels[..., 0]), name="x")
    assert image.shape == (32, 48, 3)
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


@pytest.mark.parametrize(("orientation", "rotations"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_orientation_is_applied(pixels: np.ndarray, orientation: int, rotations: int) -> None:
    content = jpeg(pixels)
    image = decode_with_opencv(with_orientation(content, orientation), name="x")
    np.testing.assert_array_equal(image, np.rot90(decode_with_opencv(content, name="x"), rotations))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a JPEG",
        small_jpeg()[:200],
        small_jpeg()[:-30],
        small_jpeg()[:2] + bytes(300),
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_damaged_frames_are_rejected(content: bytes) -> None:
    with pytest.raises(BadDataError, match="frame 3 of it"):
        decode_with_pillow(content, name="3 of it")


def test_opencv_and_pillow_decode_to_the_same_pixels(shared: Path) -> None:
    folder = shared / "data" / "paddle" / "rawframes" / "example"
    for number in (1, 64, 131):
        content = (folder / f"img_{number:05}.jpg").read_bytes()
        np.testing.assert_array_equal(
            decode_with_opencv(content, name="a"), decode_with_pillow(content, name="a")
        )
