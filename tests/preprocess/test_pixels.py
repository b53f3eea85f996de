"""Frames as planes, and crops of them written into tensors, against numpy's indexing."""

from __future__ import annotations

import numpy as np
import pytest

from preprocess.tensors.pixels import pixel_table, resize, split_planes, write_crop
from vidom.formats.crop_boxes import Box


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (256, 256), (256, 352), (240, 427)])
@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_planes_are_the_channels(size: tuple[int, int], colour: str) -> None:
    image = noise(*size)
    (planes,) = split_planes([image], colour=colour)
    step = 1 if colour == "rgb" else -1
    np.testing.assert_array_equal(planes, image.transpose(2, 0, 1)[::step])


def test_planes_of_rotated_and_of_different_frames() -> None:
    images = [noise(6, 9, seed) for seed in range(3)] + [np.rot90(noise(6, 9, 4)), noise(9, 6, 5)[:, ::-1]]
    for image, planes in zip(images, split_planes(images, colour="rgb"), strict=True):
        np.testing.assert_array_equal(planes, image.transpose(2, 0, 1))


def test_a_crop_is_copied_or_mapped_through_the_table() -> None:
    image = noise(40, 50)
    box = Box(7, 3, 39, 35)
    part = image[3:35, 7:39].transpose(2, 0, 1)
    table = pixel_table(mean=(1.5, 2.5, 3.5), std=(2.0, 4.0, 8.0))
    (planes,) = split_planes([image], colour="rgb")
    pixels, values = np.empty((3, 32, 32), np.uint8), np.empty((3, 32, 32), np.float32)
    write_crop(planes, box, None, pixels)
    write_crop(planes, box, table, values)
    np.testing.assert_array_equal(pixels, part)
    mean, std = (np.array(numbers, np.float32)[:, None, None] for numbers in ((1.5, 2.5, 3.5), (2, 4, 8)))
    np.testing.assert_array_equal(values, (part.astype(np.float32) - mean) / std)


def test_a_frame_of_the_requested_size_is_not_copied() -> None:
    image = noise(32, 48)
    assert resize(image, 48, 32) is image
    assert resize(image, 24, 16).shape == (16, 24, 3)
