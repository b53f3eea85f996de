"""Sizes and boxes against tables produced by mmaction2."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from preprocess.tensors.crops import multi_scale_crop, short_side_size, ten_crop
from vidom.errors import UsageError
from vidom.formats.crop_boxes import center_crop, three_crop

TSM_TRAIN = {"size": 224, "scales": (1, 0.875, 0.75, 0.66), "max_scale_gap": 1, "num_fixed_crops": 13}
I3D_TRAIN = {"size": 224, "scales": (1, 0.8), "max_scale_gap": 0, "num_fixed_crops": 5}


@pytest.fixture(scope="module")
def truths(fixtures: Path) -> Iterator[np.lib.npyio.NpzFile]:
    with np.load(fixtures / "mmaction2" / "geometry.npz") as archive:
        yield archive


def test_short_side_sizes(truths: np.lib.npyio.NpzFile) -> None:
    sizes = [
        [short_side_size(width, height, short_side=256) for width in truths["rescale_w"].tolist()]
        for height in truths["rescale_h"].tolist()
    ]
    np.testing.assert_array_equal(sizes, truths["rescale_256"])


def test_three_crops(truths: np.lib.npyio.NpzFile) -> None:
    landscape = [three_crop(width, 256, size=256) for width in range(256, 700)]
    portrait = [three_crop(256, height, size=256) for height in range(256, 700)]
    np.testing.assert_array_equal(landscape, truths["three_256_landscape_w256_699"])
    np.testing.assert_array_equal(portrait, truths["three_256_portrait_h256_699"])


def test_centre_crops(truths: np.lib.npyio.NpzFile) -> None:
    landscape = [center_crop(width, 256, size=224) for width in range(256, 700)]
    portrait = [center_crop(256, height, size=224) for height in range(256, 700)]
    np.testing.assert_array_equal(landscape, truths["center_224_h256_w256_699"])
    np.testing.assert_array_equal(portrait, truths["center_224_w256_h256_699"])


def test_ten_crops(truths: np.lib.npyio.NpzFile) -> None:
    crops = [ten_crop(width, 256, size=224) for width in range(256, 500, 7)]
    boxes = [[box for box, _ in ten] for ten in crops]
    np.testing.assert_array_equal(boxes, truths["ten_224_h256_w256_500_step7"])
    assert [mirrored for _, mirrored in crops[0]] == [False, True] * 5


@pytest.mark.parametrize("size", [(340, 256), (455, 256), (256, 455), (256, 256)])
@pytest.mark.parametrize(("network", "options"), [("tsm", TSM_TRAIN), ("i3d", I3D_TRAIN)])
def test_multi_scale_crops(
    truths: np.lib.npyio.NpzFile, network: str, options: dict, size: tuple[int, int]
) -> None:
    boxes = [multi_scale_crop(*size, random.Random(seed), **options) for seed in range(100)]
    # The table is named height x width.
    np.testing.assert_array_equal(boxes, truths[f"multiscale_{network}_{size[1]}x{size[0]}_randomseed0_99"])


def test_a_crop_larger_than_the_frame_is_rejected() -> None:
    with pytest.raises(UsageError, match="224x224 does not fit into a frame of 340x200"):
        center_crop(340, 200, size=224)
    with pytest.raises(UsageError, match="one side of 256, found 340x300"):
        three_crop(340, 300, size=256)
    with pytest.raises(UsageError, match="does not fit"):
        three_crop(256, 200, size=256)
