"""Frame sizes, crops and resized pixels against PaddleVideo and MindSpore, the frameworks built on Pillow."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocess.tensors.pillow_pixels import four_by_three, resize_with_pillow
from vidom.errors import UsageError
from vidom.formats.crop_boxes import full_res_crops, rounded_center_crop

SIZES = 20


@pytest.fixture(scope="module")
def truth(fixtures: Path) -> dict[str, Any]:
    """The geometry of twenty frame sizes, with checksums of the resized pixels, from the original PaddleVideo."""
    return json.loads((fixtures / "paddle" / "preprocess.json").read_text())


@pytest.mark.parametrize("number", range(SIZES))
def test_sizes_crops_and_resized_pixels_match_paddlevideo(truth: dict[str, Any], number: int) -> None:
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


def test_full_res_crops_have_the_size_and_are_inside() -> None:
    for width, height in [(341, 256), (256, 341), (224, 224), (227, 230), (400, 300)]:
        for box in full_res_crops(width, height, size=224):
            assert (box.right - box.left, box.bottom - box.top) == (224, 224)
            assert 0 <= box.left <= width - 224
            assert 0 <= box.top <= height - 224


def test_full_res_crops_of_a_frame_that_is_too_small_are_rejected() -> None:
    with pytest.raises(UsageError, match="224x224"):
        full_res_crops(341, 223, size=224)


def test_centre_crops_round_half_a_pixel_to_even() -> None:
    # Flooring agrees for 341 columns (58 for 58.5), the commonest width, but not for 343 (60 for 59.5).
    lefts = {width: rounded_center_crop(width, 256, size=224).left for width in (341, 342, 343, 345)}
    assert lefts == {341: 58, 342: 59, 343: 60, 345: 60}


def test_sizes_and_crops_match_stnet(fixtures: Path) -> None:
    for name, expected in json.loads((fixtures / "mindspore" / "geometry.json").read_text()).items():
        size = four_by_three(*map(int, name.split("x")), short_side=256, wide_square=True)
        box = rounded_center_crop(*size, size=224)
        assert {"scaled": list(size), "crop": [box.left, box.top]} == expected, name
