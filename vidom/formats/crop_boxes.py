"""Where the test crops of a resized frame lie: boxes, no pixels.

`center_crop` and `three_crop` are mmaction2 0.24's (mmaction/datasets/pipelines/augmentations.py),
`full_res_crops` is PaddleVideo's `GroupFullResSample` (loader/pipelines/augmentations.py), `rounded_center_crop` that
of pipelines built on Pillow. All boxes are in pixels of the resized frame.
"""

from __future__ import annotations

from typing import NamedTuple

from vidom.errors import UsageError
from vidom.formats.views import ViewPlan

__all__ = [
    "Box",
    "center_crop",
    "crop_boxes",
    "full_res_crops",
    "require_room",
    "rounded_center_crop",
    "square",
    "three_crop",
]


class Box(NamedTuple):
    """A rectangle of pixels: columns `left` up to `right`, rows `top` up to `bottom`, ends excluded."""

    left: int
    top: int
    right: int
    bottom: int


def crop_boxes(width: int, height: int, plan: ViewPlan) -> tuple[Box, ...]:
    """Return the plan's crops of a resized frame, in the order of the tensor."""
    if plan.crop == "three":
        return (three_crop if plan.pipeline == "mmaction2" else full_res_crops)(
            width, height, size=plan.crop_size
        )
    center = center_crop if plan.pipeline == "mmaction2" else rounded_center_crop
    return (center(width, height, size=plan.crop_size),)


def center_crop(width: int, height: int, *, size: int) -> Box:
    """Return the square of `size` pixels in the middle; an odd remainder goes to the right and below."""
    require_room(width, height, size)
    return square((width - size) // 2, (height - size) // 2, size)


def three_crop(width: int, height: int, *, size: int) -> tuple[Box, Box, Box]:
    """Return left, right, middle of a landscape frame, or top, bottom, middle of a portrait one.

    One side must equal `size`. Where the remainder of the other is odd, the right (bottom) crop ends one
    pixel short of the edge.
    """
    if size not in (width, height):
        raise UsageError(
            f"ThreeCrop of {size} needs frames with one side of {size}, found {width}x{height}. "
            "Set the recipe's short_side equal to its crop_size."
        )
    require_room(width, height, size)
    step_x, step_y = (width - size) // 2, (height - size) // 2
    first, last, middle = ((places * step_x, places * step_y) for places in (0, 2, 1))
    return square(*first, size), square(*last, size), square(*middle, size)


def full_res_crops(width: int, height: int, *, size: int) -> tuple[Box, Box, Box]:
    """Return the squares of `size` pixels at the left, the right and the centre, all at half height.

    They are at integer quarters of the free space, so that the right one may end up to 3 pixels short of the
    edge, and in a tall frame all three overlap. Raises UsageError when the frame is too small.
    """
    require_room(width, height, size)
    step_x, step_y = (width - size) // 4, (height - size) // 4
    left, right, centre = (square(column * step_x, 2 * step_y, size) for column in (0, 4, 2))
    return left, right, centre


def rounded_center_crop(width: int, height: int, *, size: int) -> Box:
    """Return the square of `size` pixels in the middle; half a pixel is rounded to the even side.

    Of 341 columns, 224 begin at 58, though 58.5 is the middle; of 343 at 60, for 59.5. Raises UsageError
    when the frame is too small.
    """
    require_room(width, height, size)
    return square(round((width - size) / 2), round((height - size) / 2), size)


def square(left: int, top: int, size: int) -> Box:
    """Return the square of `size` pixels whose upper left corner is there."""
    return Box(left, top, left + size, top + size)


def require_room(width: int, height: int, size: int) -> None:
    """Do nothing if a square of `size` pixels fits into the frame, else raise UsageError."""
    if min(width, height) < size:
        raise UsageError(
            f"A crop of {size}x{size} does not fit into a frame of {width}x{height}. "
            "Set the recipe's short_side to at least its crop_size."
        )
