"""From a decoded frame to the planes of a tensor: resize, crop, mirror, normalise (OpenCV pipelines)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocess.sources.image_files import Image
from vidom.formats.crop_boxes import Box

__all__ = [
    "Dtype",
    "Planes",
    "Table",
    "Tensor",
    "channels_last",
    "crop",
    "mirror",
    "pixel_table",
    "placed",
    "resize",
    "split_planes",
    "write_crop",
]

Dtype = Literal["float32", "uint8"]
Planes = NDArray[np.uint8]
"""A frame: uint8 [3, height, width], one plane per channel."""
Table = NDArray[np.float32]
"""The normalised value of each of the 256 pixel values of each of the 3 channels: [3, 256]."""
Tensor = NDArray[np.float32] | NDArray[np.uint8]
"""Frames of a network's input, normalised or not."""


def placed(image: Image, out: Image | None) -> Image:
    """Return the frame, copied to `out` if given."""
    if out is None:
        return image
    np.copyto(out, image)
    return out


def resize(image: Image, width: int, height: int, out: Image | None = None) -> Image:
    """Return the frame at the new size, bilinear with OpenCV's fixed-point weights as in the original.

    It is written to `out` if given (C-contiguous, of the new shape). Without, a frame that already has that size is
    returned as it is; OpenCV would copy it.
    """
    if image.shape[:2] == (height, width):
        return placed(image, out)
    return np.asarray(cv2.resize(image, (width, height), out, interpolation=cv2.INTER_LINEAR), np.uint8)


def crop(image: Image, box: Box) -> Image:
    """Return a view of the part of the frame inside `box`."""
    return image[box.top : box.bottom, box.left : box.right]


def mirror(image: Image, out: Image | None = None) -> Image:
    """Return the frame flipped horizontally, in `out` if given (C-contiguous, of the frame's shape)."""
    return np.asarray(cv2.flip(image, 1, out), np.uint8)


def pixel_table(*, mean: Sequence[float], std: Sequence[float]) -> Table:
    """Return the normalised value of each pixel value and channel: (value - mean) / std.

    Both operations round to float32, as mmcv `imnormalize` does. Multiplying by 1/std, or computing in
    float64, would change the last bit of a few hundred of the 768 values.
    """
    values = np.arange(256, dtype=np.float32)
    means, deviations = (np.asarray(numbers, np.float32)[:, None] for numbers in (mean, std))
    return np.asarray((values - means) / deviations, np.float32)


def split_planes(images: Iterable[Image], *, colour: Literal["rgb", "bgr"]) -> Iterator[Planes]:
    """Yield each frame as planes in this channel order; the array is valid until the next iteration.

    Frames of one size share a buffer, since allocating it again costs more than splitting.
    """
    planes: Planes = np.empty((3, 0, 0), np.uint8)
    for image in images:
        if planes.shape[1:] != image.shape[:2]:
            planes = _empty_planes(*image.shape[:2])
        cv2.split(image, list(planes if colour == "rgb" else planes[::-1]))
        yield planes


def _empty_planes(height: int, width: int) -> Planes:
    # Planes a multiple of 4096 bytes apart evict one another from the cache, and if all three have the same offset
    # modulo 32 bytes OpenCV bypasses it. Crops are read from the planes at once: both would cost a tenth of the time.
    pitch = height * width
    pitch += (1040 - pitch) % 4096
    return np.empty((3, pitch), np.uint8)[:, : height * width].reshape(3, height, width)


def channels_last(tensor: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy of images [..., 3, height, width] as [..., height, width, 3]."""
    *lead, _, height, width = tensor.shape
    images = np.empty((*lead, height, width, 3), np.uint8)
    for planes, image in zip(
        tensor.reshape(-1, 3, height, width), images.reshape(-1, height, width, 3), strict=True
    ):
        cv2.merge(tuple(planes), dst=image)
    return images


def write_crop(planes: Planes, box: Box, table: Table | None, out: Tensor) -> None:
    """Write the part of the planes inside `box` to `out` [3, height, width], mapped through `table` if given.

    `out` must be C-contiguous, of the box's size, and float32 with a table, uint8 without. Writing plane by plane to
    the final location avoids the transposed copy that costs the original pipelines more than decoding.
    """
    if table is None:
        np.copyto(out, planes[:, box.top : box.bottom, box.left : box.right])
        return
    for plane, values, target in zip(planes, table, out, strict=True):
        cv2.LUT(crop(plane, box), values[None], dst=target)
