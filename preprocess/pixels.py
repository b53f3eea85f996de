"""From a decoded frame to the planes of a tensor: resize, crop, mirror, normalise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocess.crops import Box

__all__ = ["Dtype", "Image", "Table", "crop", "mirror", "pixel_table", "resize", "split_planes", "write_crop"]

Dtype = Literal["float32", "uint8"]
Image = NDArray[np.uint8]
"""A frame: uint8 [height, width, 3], red, green, blue."""
Table = NDArray[np.float32] | NDArray[np.uint8]
"""What each of the 256 values of each of the 3 channels becomes: [3, 256]."""


def resize(image: Image, width: int, height: int) -> Image:
    """Return the frame at the new size, bilinearly, with OpenCV's fixed-point weights as the original does."""
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def crop(image: Image, box: Box) -> Image:
    """Return the part of the frame inside `box`, without copying."""
    return image[box.top : box.bottom, box.left : box.right]


def mirror(image: Image) -> Image:
    """Return the frame with left and right exchanged."""
    return np.asarray(cv2.flip(image, 1), np.uint8)


def pixel_table(*, mean: Sequence[float], std: Sequence[float], dtype: Dtype) -> Table:
    """Return what each pixel value becomes: (value - mean) / std for float32, itself for uint8.

    Both operations round to float32, as mmcv `imnormalize` does. Multiplying by 1/std, or computing in
    float64, would change the last bit of a few hundred of the 768 values.
    """
    values = np.arange(256, dtype=np.uint8)
    if dtype == "uint8":
        return np.tile(values, (3, 1))
    per_channel = [np.asarray(numbers, np.float32)[:, None] for numbers in (mean, std)]
    return (values.astype(np.float32) - per_channel[0]) / per_channel[1]


def split_planes(image: Image, *, colour: Literal["rgb", "bgr"]) -> NDArray[np.uint8]:
    """Return the frame as [3, height, width] planes in this order of colours."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    return planes if colour == "rgb" else planes[::-1]


def write_crop(planes: NDArray[np.uint8], box: Box, table: Table, out: Table) -> None:
    """`out` [3, height, width] holds the part of the planes [3, H, W] inside `box`, looked up in `table`.

    `out` must be C-contiguous, of the table's dtype and of the box's size. Going plane by plane into
    the final place spares the transposed copy that costs the original more than decoding does.
    """
    for plane, values, target in zip(planes, table, out, strict=True):
        cv2.LUT(crop(plane, box), values[None], dst=target)
