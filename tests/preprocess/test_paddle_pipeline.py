"""PP-TSM's pipelines against the frames, pictures and tensors of the original PaddleVideo."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from preprocess.sources.frames import RawFrames
from preprocess.sources.jpeg import decode_jpeg, decode_with_pillow
from preprocess.sources.video import VideoFile
from preprocess.tensors.pillow_pixels import (
    four_by_three,
    resize_with_pillow,
)
from preprocess.tensors.samples import make_sample
from preprocess.tensors.sampling import dense_test, uniform_middles
from vidom.errors import UsageError
from vidom.formats.crop_boxes import full_res_crops, rounded_center_crop
from vidom.formats.recipe import load_recipe

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


def digest(tensor: np.ndarray) -> str:
    return hashlib.sha256(tensor.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def video(shared: Path) -> VideoFile:
    return VideoFile(shared / "data" / "paddle" / "example.avi")


@pytest.fixture(scope="module")
def frames(shared: Path) -> RawFrames:
    return RawFrames(shared / "data" / "paddle" / "rawframes" / "example", 131, decode=decode_with_pillow)


@pytest.mark.parametrize(
    ("name", "source", "recipe", "overrides"),
    [
        ("videos_uniform_test", "video", "pptsm_k400_uniform", ()),
        ("videos_uniform_test_16", "video", "pptsm_k400_uniform", ("views.num_segments=16",)),
        ("frames_uniform_test", "frames", "pptsm_k400_uniform", ()),
        ("frames_dense_test", "frames", "pptsm_k400_dense", ()),
    ],
)
def test_frames_and_tensors_are_the_originals_bit_for_bit(
    request: pytest.FixtureRequest,
    truth: dict[str, Any],
    name: str,
    source: str,
    recipe: str,
    overrides: tuple[str, ...],
) -> None:
    plan = load_recipe(recipe, overrides).views
    sample = make_sample(request.getfixturevalue(source), plan)
    assert list(sample.frames) == truth[name]["frames_idx"]
    assert digest(sample.tensor) == truth[name]["sha256_float32"]
    pixels = make_sample(request.getfixturevalue(source), plan, dtype="uint8").tensor
    crops = "GroupFullResSample" if plan.crop == "three" else "CenterCrop"
    assert f"{zlib.crc32(pixels.transpose(0, 2, 3, 1).tobytes()):08x}" == truth[name]["crc32"][crops]


def test_decoded_frames_are_the_originals(truth: dict[str, Any], video: VideoFile, frames: RawFrames) -> None:
    for name, source in (("videos_uniform_test", video), ("frames_uniform_test", frames)):
        decoded = np.stack(list(source.read(uniform_middles(131, num_segments=8).tolist())))
        assert f"{zlib.crc32(decoded.tobytes()):08x}" == truth[name]["crc32"]["Sampler"]


def test_half_a_pixel_goes_to_the_even_side() -> None:
    # Flooring agrees for 341 columns (58 for 58.5), the commonest width, but not for 343 (60 for 59.5).
    lefts = {width: rounded_center_crop(width, 256, size=224).left for width in (341, 342, 343, 345)}
    assert lefts == {341: 58, 342: 59, 343: 60, 345: 60}


def test_opencv_and_pillow_decode_the_same_frames(frames: RawFrames) -> None:
    for number in (1, 64, 131):
        content = (frames.folder / f"img_{number:05}.jpg").read_bytes()
        np.testing.assert_array_equal(decode_jpeg(content, name="a"), decode_with_pillow(content, name="a"))
