"""PP-TSM's pipelines against the frames, pictures and tensors of the original PaddleVideo."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from preprocess.crops import Box
from preprocess.frames import FrameSource, RawFrames, decode_jpeg
from preprocess.paddle_views import full_res_crops, uniform_middles
from preprocess.pillow_pixels import (
    decode_with_pillow,
    four_by_three,
    resize_with_pillow,
    rounded_center_crop,
    unit_pixel_table,
)
from preprocess.pixels import crop
from preprocess.sampling import dense_test
from preprocess.video import VideoFile
from vidom.errors import UsageError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = 20


@pytest.fixture(scope="module")
def truth(fixtures: Path) -> dict[str, Any]:
    """Checksums of every stage of the original on example.avi, and the geometry of twenty frame sizes."""
    return json.loads((fixtures / "paddle" / "preprocess.json").read_text())


@pytest.fixture(scope="module")
def indices(fixtures: Path) -> dict[str, NDArray[np.int64]]:
    """For each of `lengths`, the frames that the original's sampler takes, padded with -1."""
    with np.load(fixtures / "paddle" / "sampling_indices.npz") as archive:
        return {name: archive[name] for name in archive.files if name != "meta_json"}


@pytest.mark.parametrize("segments", [8, 16])
def test_uniform_sampling_is_the_originals_at_all_lengths(
    indices: dict[str, NDArray[np.int64]], segments: int
) -> None:
    for row, length in enumerate(indices["lengths"].tolist()):
        found = uniform_middles(length, num_segments=segments)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(
            found, indices[f"idx_uniform_video_{segments}"][row], err_msg=str(length)
        )
        # Of shorter ones the original asks for files that are not there.
        if length >= segments:
            numbers = indices[f"idx_uniform_frame_{segments}"][row]
            np.testing.assert_array_equal(found + 1, numbers, err_msg=str(length))


@pytest.mark.parametrize(
    ("name", "segments"), [("dense_frame_8", 8), ("dense_video_8", 8), ("dense_frame_16", 16)]
)
def test_dense_sampling_is_the_originals_at_all_lengths(
    indices: dict[str, NDArray[np.int64]], name: str, segments: int
) -> None:
    for row, length in enumerate(indices["lengths"].tolist()):
        # The original counts from 1, for videos too, where that is a mistake.
        found = dense_test(length, num_clips=segments) + 1
        np.testing.assert_array_equal(found, indices[f"idx_{name}"][row], err_msg=str(length))


@pytest.mark.parametrize("number", range(SIZES))
def test_sizes_crops_and_resized_pixels_are_the_originals(truth: dict[str, Any], number: int) -> None:
    case = truth["geometry"][number]
    rows, columns = np.mgrid[: case["h"], : case["w"]]
    image = np.stack([columns % 256, rows % 256, (columns + rows) % 256], axis=-1).astype(np.uint8)
    size = four_by_three(case["w"], case["h"], short_side=256, wide_square=False)
    assert list(size) == case["scale_default"]
    resized = np.ascontiguousarray(resize_with_pillow(image, *size))
    # The original ran with Pillow 9.5; Pillow 13 alone differs for the tall frame of 100 x 400.
    assert f"{zlib.crc32(resized.tobytes()):08x}" == case["scale_default_crc32"]
    assert list(rounded_center_crop(*size, size=224)[:2]) == case["center_crop_xy"]
    corners = [list(box[:2]) for box in full_res_crops(*size, size=224)]
    assert corners == case["full_res_xy_left_right_center"]


def test_all_sizes_were_compared(truth: dict[str, Any]) -> None:
    assert len(truth["geometry"]) == SIZES


def test_full_res_crops_have_the_size_and_lie_inside() -> None:
    for width, height in [(341, 256), (256, 341), (224, 224), (227, 230), (400, 300)]:
        for box in full_res_crops(width, height, size=224):
            assert (box.right - box.left, box.bottom - box.top) == (224, 224)
            assert 0 <= box.left <= width - 224
            assert 0 <= box.top <= height - 224


def test_full_res_crops_of_too_small_a_frame_are_refused() -> None:
    with pytest.raises(UsageError, match="224x224"):
        full_res_crops(341, 223, size=224)


def rounded_centre(width: int, height: int) -> Sequence[Box]:
    return (rounded_center_crop(width, height, size=224),)


def left_right_centre(width: int, height: int) -> Sequence[Box]:
    return full_res_crops(width, height, size=224)


def sample(
    source: FrameSource, positions: NDArray[np.int64], crops: Callable[[int, int], Sequence[Box]]
) -> tuple[str, str]:
    """The CRC-32 of the decoded frames in order, and the SHA-256 of the normalised tensor."""
    wanted = np.unique(positions).tolist()
    frames = dict(zip(wanted, source.read(wanted), strict=True))
    crc = 0
    for position in positions.tolist():
        crc = zlib.crc32(np.ascontiguousarray(frames[position]).tobytes(), crc)
    height, width = next(iter(frames.values())).shape[:2]
    size = four_by_three(width, height, short_side=256, wide_square=False)
    resized = {position: resize_with_pillow(frame, *size) for position, frame in frames.items()}
    table = unit_pixel_table(mean=MEAN, std=STD)
    digest = hashlib.sha256()
    for box in crops(*size):
        for position in positions.tolist():
            pixels = crop(resized[position], box)
            for channel, values in enumerate(table):
                digest.update(values[pixels[..., channel]].tobytes())
    return f"{crc:08x}", digest.hexdigest()


@pytest.fixture(scope="module")
def video(shared: Path) -> VideoFile:
    return VideoFile(shared / "data" / "paddle" / "example.avi")


@pytest.fixture(scope="module")
def frames(shared: Path) -> RawFrames:
    return RawFrames(shared / "data" / "paddle" / "rawframes" / "example", 131)


@pytest.mark.parametrize(
    ("name", "source", "positions", "crops"),
    [
        ("videos_uniform_test", "video", uniform_middles(131, num_segments=8), rounded_centre),
        ("videos_uniform_test_16", "video", uniform_middles(131, num_segments=16), rounded_centre),
        ("frames_uniform_test", "frames", uniform_middles(131, num_segments=8), rounded_centre),
        ("frames_dense_test", "frames", dense_test(131, num_clips=8), left_right_centre),
        # The original is one frame late where it samples videos densely.
        ("videos_dense_test_UNSHIPPED", "video", dense_test(131, num_clips=8) + 1, left_right_centre),
    ],
)
def test_frames_and_tensors_are_the_originals_bit_for_bit(
    request: pytest.FixtureRequest,
    truth: dict[str, Any],
    name: str,
    source: str,
    positions: NDArray[np.int64],
    crops: Callable[[int, int], Sequence[Box]],
) -> None:
    expected = truth[name]
    opened: FrameSource = request.getfixturevalue(source)
    assert opened.total_frames == 131
    first = 0 if source == "video" else 1
    assert (positions + first).tolist() == expected["frames_idx"]
    assert sample(opened, positions, crops) == (expected["crc32"]["Sampler"], expected["sha256_float32"])


def test_half_a_pixel_goes_to_the_even_side() -> None:
    # Flooring agrees for 341 columns (58 for 58.5), the commonest width, but not for 343 (60 for 59.5).
    lefts = {width: rounded_center_crop(width, 256, size=224).left for width in (341, 342, 343, 345)}
    assert lefts == {341: 58, 342: 59, 343: 60, 345: 60}


def test_opencv_and_pillow_decode_the_same_frames(frames: RawFrames) -> None:
    for number in (1, 64, 131):
        content = (frames.folder / f"img_{number:05}.jpg").read_bytes()
        np.testing.assert_array_equal(decode_jpeg(content, name="a"), decode_with_pillow(content, name="a"))
