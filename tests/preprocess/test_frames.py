"""Frames read from JPEG files: what is accepted, and how damage is reported."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from preprocess.sources.frames import RawFrames
from preprocess.sources.image_files import decode_with_opencv, decode_with_pillow
from preprocess.tensors.samples import make_sample
from vidom.errors import BadDataError
from vidom.formats.frame_naming import FrameNaming
from vidom.formats.views import ViewPlan

PLAN = ViewPlan(num_segments=2, short_side=32, crop="center", crop_size=32, mean=(0, 0, 0), std=(1, 1, 1))


def jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image)[1].tobytes()


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.fixture
def image() -> np.ndarray:
    """A smooth BGR image, 48 wide and 32 high, different from its rotations."""
    ramp = np.linspace(0, 255, 48 * 32).reshape(32, 48)
    return np.dstack([ramp, ramp[::-1], np.full_like(ramp, 60)]).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path, image: np.ndarray) -> Path:
    for number in range(1, 5):
        (tmp_path / f"img_{number:05}.jpg").write_bytes(jpeg(image))
    return tmp_path


def test_numbers_follow_the_offset_and_the_template(folder: Path, image: np.ndarray) -> None:
    (folder / "00007.jpg").write_bytes(jpeg(255 - image))
    (frame,) = RawFrames(folder, 3, FrameNaming("{:05}.jpg", 1), offset=4).read([2])
    np.testing.assert_array_equal(frame, decode_with_opencv(jpeg(255 - image), name="x"))


def test_a_missing_frame_is_reported(folder: Path) -> None:
    with pytest.raises(BadDataError, match=r"img_00007\.jpg does not exist, but the list declares 8 frames"):
        make_sample(RawFrames(folder, 8), PLAN)


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match="frame folder .*absent does not exist"):
        make_sample(RawFrames(tmp_path / "absent", 8), PLAN)


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_truncated_frame_is_reported(folder: Path, kept: float) -> None:
    path = folder / "img_00002.jpg"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(BadDataError, match=r"img_00002\.jpg cannot be decoded"):
        list(RawFrames(folder, 4).read([0, 1]))


@pytest.mark.parametrize("content", [b"", b"\xff", b"\xff\xd8", b"plain text\n" * 9, b"\x89PNG\r\n\x1a"])
def test_a_file_that_is_no_image_is_reported(folder: Path, content: bytes) -> None:
    (folder / "img_00001.jpg").write_bytes(content)
    with pytest.raises(BadDataError, match=r"img_00001\.jpg is neither a JPEG nor a PNG file"):
        list(RawFrames(folder, 4).read([0]))


@pytest.mark.parametrize("decode", [decode_with_opencv, decode_with_pillow])
def test_png_frames_are_read_and_damaged_ones_are_not(image: np.ndarray, decode) -> None:
    content = png(image[..., ::-1])
    np.testing.assert_array_equal(decode(content, name="x"), image)
    np.testing.assert_array_equal(decode(png(image[..., 0]), name="x"), np.repeat(image[..., :1], 3, axis=2))
    alpha = np.full(image.shape[:2], 7, np.uint8)
    np.testing.assert_array_equal(decode(png(np.dstack([image[..., ::-1], alpha])), name="x"), image)
    for at in range(8, len(content), 3):
        with pytest.raises(BadDataError):
            decode(content[:at], name="x")
        changed = bytearray(content)
        changed[at] ^= 0x10
        with pytest.raises(BadDataError):
            decode(bytes(changed), name="x")


@pytest.mark.parametrize(
    ("numbers", "total", "sampled"),
    [
        (range(40), 40, [2, 7, 12, 17, 22, 27, 32, 37]),
        (range(1, 41), 40, [3, 8, 13, 18, 23, 28, 33, 38]),
        (range(60), 40, [2, 7, 12, 17, 22, 27, 32, 37]),
        (range(41), 40, None),  # one more than listed: which end is surplus is unknown
        (range(2, 42), 40, None),
        (range(50, 90), 40, None),
    ],
)
def test_each_folder_shows_the_number_of_its_first_frame(
    tmp_path: Path, image: np.ndarray, numbers: range, total: int, sampled: list[int] | None
) -> None:
    for number in numbers:
        (tmp_path / f"img_{number:05}.jpg").write_bytes(jpeg(image))
    source, plan = RawFrames(tmp_path, total), PLAN.model_copy(update={"num_segments": 8})
    if sampled is None:
        with pytest.raises(BadDataError, match=r"dataset\.first_frame"):
            make_sample(source, plan)
    else:
        assert list(make_sample(source, plan).frames) == sampled


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("offset", [0, 10, 30])
def test_parts_of_a_folder_begin_at_its_first_number(
    tmp_path: Path, image: np.ndarray, first: int, offset: int
) -> None:
    for number in range(first, first + 40):
        (tmp_path / f"img_{number:05}.jpg").write_bytes(jpeg(image))
    frames = make_sample(RawFrames(tmp_path, 10, offset=offset), PLAN).frames
    assert list(frames) == [first + offset + 2, first + offset + 7]


def test_the_recipe_can_say_where_frames_begin(tmp_path: Path, image: np.ndarray) -> None:
    for number in range(41):
        (tmp_path / f"img_{number:05}.jpg").write_bytes(jpeg(image))
    firsts = [
        make_sample(RawFrames(tmp_path, 40, FrameNaming(first=first)), PLAN).frames[0] for first in (0, 1)
    ]
    assert firsts == [10, 11]


@pytest.mark.parametrize("decode", [decode_with_opencv, decode_with_pillow])
def test_png_frames_of_16_bits_keep_their_upper_byte(image: np.ndarray, decode) -> None:
    deep = image.astype(np.uint16) << 8 | 0x7F
    np.testing.assert_array_equal(decode(png(deep[..., ::-1]), name="x"), image)
    np.testing.assert_array_equal(decode(png(deep[..., 0]), name="x"), np.repeat(image[..., :1], 3, axis=2))


@pytest.mark.parametrize("decode", [decode_with_opencv, decode_with_pillow])
def test_a_png_frame_that_lacks_rows_is_damaged_though_its_checksums_are_right(decode) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    def of_rows(count: int) -> bytes:
        pixels = zlib.compress(bytes(count * (1 + 3 * 16)))
        header = struct.pack(">IIBBBBB", 16, 12, 8, 2, 0, 0, 0)
        chunks = (chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)

    assert decode(of_rows(12), name="x").shape == (12, 16, 3)
    with pytest.raises(BadDataError, match="truncated or damaged"):
        decode(of_rows(6), name="x")


def test_a_video_file_in_a_list_of_folders_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"video")
    with pytest.raises(BadDataError, match=r"a\.mp4 is a file, but the list declares 40 frames"):
        make_sample(RawFrames(tmp_path / "a.mp4", 40), PLAN)


def test_an_oversized_frame_is_rejected_before_decoding(folder: Path) -> None:
    content = bytearray((folder / "img_00001.jpg").read_bytes())
    header = content.index(b"\xff\xc0")
    content[header + 5 : header + 9] = struct.pack(">HH", 65500, 65500)
    (folder / "img_00001.jpg").write_bytes(content)
    with pytest.raises(BadDataError, match=r"img_00001\.jpg measure 65500x65500"):
        list(RawFrames(folder, 4).read([0]))


def test_a_narrow_frame_that_resizing_would_enlarge_beyond_the_limit_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "img_00001.jpg").write_bytes(jpeg(np.zeros((2, 9000, 3), np.uint8)))
    with pytest.raises(BadDataError, match="resized, measure 144000x32"):
        make_sample(RawFrames(tmp_path, 1), PLAN)


def test_frames_of_different_sizes_are_rejected(folder: Path) -> None:
    (folder / "img_00004.jpg").write_bytes(jpeg(np.zeros((40, 48, 3), np.uint8)))
    with pytest.raises(BadDataError, match="Frame 4 of .* measures 48x40, the frames before it 48x32"):
        make_sample(RawFrames(folder, 4), PLAN)


def test_a_video_without_frames_is_rejected(folder: Path) -> None:
    with pytest.raises(BadDataError, match="has 0 frames"):
        make_sample(RawFrames(folder, 0), PLAN)


@pytest.mark.parametrize(
    "out",
    [
        np.empty((2, 3, 32, 32), np.uint8),
        np.empty((2, 3, 32, 31), np.float32),
        np.empty((2, 32, 32, 3), np.float32).transpose(0, 3, 1, 2),
    ],
)
def test_an_unsuitable_output_buffer_is_rejected(folder: Path, out: np.ndarray) -> None:
    with pytest.raises(ValueError, match="out must be C-contiguous float32"):
        make_sample(RawFrames(folder, 4), PLAN, out=out)
