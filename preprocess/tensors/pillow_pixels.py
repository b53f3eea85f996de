"""Decoding, resizing and normalising as pipelines built on Pillow do it.

PaddleVideo (`loader/pipelines/augmentations.py`) and MindSpore's StNet (`src/dataset.py`) share these steps; they
differ in the shape that a square frame takes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow

from preprocess.sources.frames import check_frame_size
from preprocess.tensors.pixels import Image
from vidom.errors import BadDataError

__all__ = [
    "decode_with_pillow",
    "four_by_three",
    "resize_with_pillow",
    "unit_pixel_table",
]


def decode_with_pillow(content: bytes, *, name: str) -> Image:
    """Return the picture in these JPEG bytes as Pillow decodes it; its EXIF orientation is not applied.

    Raises BadDataError, naming the frame `name`, when the bytes are no JPEG file, stop before the picture does, or
    hold a picture of more than MAX_SIDE by MAX_PIXELS.
    """
    try:
        with pillow.open(io.BytesIO(content), formats=("JPEG",)) as picture:
            check_frame_size(*picture.size, name=name)
            return np.asarray(picture.convert("RGB"), np.uint8)
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        raise BadDataError(
            f"The frame {name} cannot be decoded ({str(error)[:200]}): its {len(content)} bytes are no JPEG file, or "
            "are cut short or damaged. Extract the frames of this video again."
        ) from None


def resize_with_pillow(image: Image, width: int, height: int) -> Image:
    """Return the frame at the new size, bilinearly and antialiased: when shrinking, every pixel counts.

    Rows are resized first, then columns, with whole numbers in between, as every Pillow up to 12 does. Asked
    for both at once, Pillow 13 takes the other order for some tall frames and differs there by one level.
    """
    if image.shape[:2] == (height, width):
        return image
    bilinear = pillow.Resampling.BILINEAR
    wide = pillow.fromarray(image).resize((width, image.shape[0]), bilinear)
    return np.asarray(wide.resize((width, height), bilinear), np.uint8)


def four_by_three(width: int, height: int, *, short_side: int, wide_square: bool) -> tuple[int, int]:
    """Return (width, height) of 4:3 or 3:4 with this shorter side, whatever the frame's own aspect is.

    A frame whose shorter side is `short_side` already stays as it is. A square frame becomes wide with
    `wide_square` (StNet), tall without (PP-TSM).
    """
    if min(width, height) == short_side:
        return width, height
    long_side = int(short_side * 4.0 / 3)
    wide = width > height or (wide_square and width == height)
    return (long_side, short_side) if wide else (short_side, long_side)


def unit_pixel_table(*, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """Return [3, 256], what each pixel value becomes: (value / 255 - mean) / std, rounded to float32 at each step.

    `mean` and `std` are on the scale 0..1, as 0.485 is.
    """
    values = np.arange(256, dtype=np.float32) / np.float32(255)
    means, deviations = (np.asarray(numbers, np.float32)[:, None] for numbers in (mean, std))
    return np.asarray((values - means) / deviations, np.float32)
