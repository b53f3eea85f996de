"""Resizing and normalisation as in pipelines built on Pillow.

PaddleVideo (`loader/pipelines/augmentations.py`) and MindSpore's StNet (`src/dataset.py`) share these steps; they
differ in the shape that a square frame gets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from preprocess.sources.image_files import Image
from preprocess.tensors.pixels import placed

__all__ = ["four_by_three", "resize_with_pillow", "unit_pixel_table"]


def resize_with_pillow(image: Image, width: int, height: int, out: Image | None = None) -> Image:
    """Return the frame at the new size, bilinear with antialiasing: when shrinking, every pixel contributes.

    Rows are resized first, then columns, with integers in between, as in every Pillow up to 12. In a single call
    Pillow 13 uses the other order for some tall frames and differs there by one level. The frame is written to `out`
    if given.
    """
    if image.shape[:2] == (height, width):
        return placed(image, out)
    bilinear = pillow.Resampling.BILINEAR
    wide = pillow.fromarray(image).resize((width, image.shape[0]), bilinear)
    return placed(np.asarray(wide.resize((width, height), bilinear), np.uint8), out)


def four_by_three(width: int, height: int, *, short_side: int, wide_square: bool) -> tuple[int, int]:
    """Return (width, height) of 4:3 or 3:4 with this shorter side, regardless of the frame's aspect ratio.

    A frame whose shorter side already is `short_side` keeps its size. A square frame becomes wide with
    `wide_square` (StNet), tall without (PP-TSM).
    """
    if min(width, height) == short_side:
        return width, height
    long_side = int(short_side * 4.0 / 3)
    wide = width > height or (wide_square and width == height)
    return (long_side, short_side) if wide else (short_side, long_side)


def unit_pixel_table(*, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """Return the normalised value of each pixel value and channel, [3, 256]: (value / 255 - mean) / std.

    Every step rounds to float32. `mean` and `std` are on the scale 0..1, such as 0.485.
    """
    values = np.arange(256, dtype=np.float32) / np.float32(255)
    means, deviations = (np.asarray(numbers, np.float32)[:, None] for numbers in (mean, std))
    return np.asarray((values - means) / deviations, np.float32)
