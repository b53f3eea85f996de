"""The size of resized frames, and the boxes of crops other than those of the test views; pure geometry.

The rules are those of mmaction2 0.24 (mmaction/datasets/pipelines/augmentations.py) and mmcv
`rescale_size`; all boxes are in pixels of the resized frame.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from vidom.formats.crop_boxes import Box, center_crop, require_room, square

__all__ = [
    "multi_scale_crop",
    "random_crop",
    "random_resized_crop",
    "rounded_multi_scale_crop",
    "short_side_size",
    "ten_crop",
]


def short_side_size(width: int, height: int, *, short_side: int) -> tuple[int, int]:
    """Return (width, height) scaled, up or down, so that the shorter one is `short_side`."""
    scale = short_side / min(width, height)
    return int(width * scale + 0.5), int(height * scale + 0.5)


def ten_crop(width: int, height: int, *, size: int) -> tuple[tuple[Box, bool], ...]:
    """Return ten (box, mirrored): upper left, upper right, lower left, lower right, centre, each plain and mirrored."""
    require_room(width, height, size)
    step_x, step_y = (width - size) // 4, (height - size) // 4
    corners = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2))
    boxes = [square(x * step_x, y * step_y, size) for x, y in corners]
    return tuple((box, mirrored) for box in boxes for mirrored in (False, True))


def multi_scale_crop(
    width: int,
    height: int,
    generator: random.Random,
    *,
    size: int,
    scales: Sequence[float],
    max_scale_gap: int,
    num_fixed_crops: int,
) -> Box:
    """Return a random box of random size and aspect, to be resized to `size` x `size` for training.

    Its sides are two of `scales` times the short side of the frame; a side within 2 pixels of `size` becomes `size`.

    Args:
        width: the width of the frame.
        height: its height.
        generator: the source of randomness.
        size: the size that the network takes.
        scales: the possible ratios of a side to the short side of the frame.
        max_scale_gap: how many entries of `scales` the ratios of the two sides may be apart.
        num_fixed_crops: how many of the 13 fixed positions are used, 5 or 13.
    """
    across, down = generator.choice(_shapes(min(width, height), size, scales, max_scale_gap))
    step_x, step_y = (width - across) // 4, (height - down) // 4
    column, row = generator.choice(_FIXED_POSITIONS[:num_fixed_crops])
    left, top = column * step_x, row * step_y
    return Box(left, top, left + across, top + down)


def rounded_multi_scale_crop(
    width: int,
    height: int,
    generator: random.Random,
    *,
    size: int,
    scales: Sequence[float],
    max_scale_gap: int,
    num_fixed_crops: int,
) -> Box:
    """Return a random box as `multi_scale_crop` does, as PaddleVideo's `MultiScaleCrop` chooses it.

    The margin is divided into exact quarters and the box is rounded by Pillow, halves to even numbers, so that its
    sides may differ by a pixel from those chosen. Along a side without margin corners and centre are there once, so
    that fewer positions are chosen from. Source: `paddlevideo/loader/pipelines/augmentations.py`.
    """
    across, down = generator.choice(_shapes(min(width, height), size, scales, max_scale_gap))
    step_x, step_y = (width - across) / 4, (height - down) / 4
    positions = [
        (column, row)
        for column, row in _FIXED_POSITIONS[:num_fixed_crops]
        if (column, row) not in _CORNERS_AND_CENTRE or _has_margin(column, row, step_x, step_y)
    ]
    column, row = generator.choice(positions)
    left, top = column * step_x, row * step_y
    return Box(round(left), round(top), round(left + across), round(top + down))


def random_crop(width: int, height: int, generator: random.Random, *, size: int) -> Box:
    """Return a square of `size` pixels at a random position, as MindSpore's StNet chooses it: the column first.

    Raises UsageError where the frame is smaller. Source: `group_random_crop` of research/cv/stnet/src/dataset.py.
    """
    require_room(width, height, size)
    left = generator.randint(0, width - size)
    return square(left, generator.randint(0, height - size), size)


def random_resized_crop(
    width: int,
    height: int,
    numbers: np.random.RandomState,
    offsets: random.Random,
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> Box:
    """Return a box of a random part of the frame's area and a random aspect ratio, to be resized for training.

    The first of ten shapes that fits into the frame is used, and the largest square in the middle if none does. The
    aspect ratio is uniform on a logarithmic scale. `numbers` chooses shapes, `offsets` positions, as in the original.
    """
    ratios = np.exp(numbers.uniform(np.log(aspect[0]), np.log(aspect[1]), size=_ATTEMPTS))
    areas = numbers.uniform(*area, size=_ATTEMPTS) * (width * height)
    shapes = zip(np.round(np.sqrt(areas * ratios)), np.round(np.sqrt(areas / ratios)), strict=True)
    for across, down in ((int(across), int(down)) for across, down in shapes):
        if across <= width and down <= height:
            left, top = offsets.randint(0, width - across), offsets.randint(0, height - down)
            return Box(left, top, left + across, top + down)
    return center_crop(width, height, size=min(width, height))


def _shapes(short_side: int, size: int, scales: Sequence[float], max_scale_gap: int) -> list[tuple[int, int]]:
    """Return the possible (width, height) of multi-scale crops, in the order in which the originals list them."""
    sides = [int(short_side * scale) for scale in scales]
    sides = [size if abs(side - size) < 3 else side for side in sides]
    return [
        (across, down)
        for i, down in enumerate(sides)
        for j, across in enumerate(sides)
        if abs(i - j) <= max_scale_gap
    ]


def _has_margin(column: int, row: int, step_x: float, step_y: float) -> bool:
    """Return whether the corner or the centre is a different place than the ones listed before it."""
    if (column, row) == (2, 2):
        return bool(step_x or step_y)
    return bool((step_x or not column) and (step_y or not row))


_ATTEMPTS = 10
# (column, row) in quarters of the margin: corners and centre, then edges, then the inner quarters.
_CORNERS_AND_CENTRE = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2))
_FIXED_POSITIONS = (
    *_CORNERS_AND_CENTRE,
    *((0, 2), (4, 2), (2, 4), (2, 0)),
    *((1, 1), (3, 1), (1, 3), (3, 3)),
)
