"""Which frames and which crops the test pipelines of PaddleVideo's PP-TSM take.

`Sampler` of `paddlevideo/loader/pipelines/sample.py` and `GroupFullResSample` of `augmentations.py`. Its dense
sampling takes the frames that `preprocess.sampling.dense_test` takes; what else they share with other
pipelines built on Pillow stands in `preprocess.pillow_pixels`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from preprocess.crops import Box
from vidom.errors import UsageError

__all__ = ["full_res_crops", "uniform_middles"]


def uniform_middles(total_frames: int, *, num_segments: int) -> NDArray[np.int64]:
    """Return int64 positions from 0: the middle frame of each of `num_segments` equal whole stretches.

    Of an even number of frames the earlier of the middle two is taken, and what is left over lies at the end of
    the video. A video of fewer frames than segments gives its frames in turn, and then begins again.

    The original does that for video files. For extracted frames it adds 1, so that position 0 is
    img_00001.jpg, but does not begin again: it asks for files that are not there, and silently tests on
    another sample instead.
    """
    stretch = total_frames // num_segments
    positions = np.arange(num_segments) * max(stretch, 1) + max(stretch - 1, 0) // 2
    return positions.astype(np.int64) % total_frames


def full_res_crops(width: int, height: int, *, size: int) -> tuple[Box, Box, Box]:
    """Return the squares of `size` pixels at the left, the right and the centre, all at half height.

    They lie at whole quarters of the free space, so that the right one may end up to 3 pixels short of the
    edge, and in a tall frame all three overlap. Raises UsageError when the frame is too small.
    """
    if min(width, height) < size:
        raise UsageError(
            f"A crop of {size}x{size} does not fit into a frame of {width}x{height}. "
            "Set the recipe's short_side to at least its crop_size."
        )
    step_x, step_y = (width - size) // 4, (height - size) // 4
    left, right, centre = (
        Box(column * step_x, 2 * step_y, column * step_x + size, 2 * step_y + size) for column in (0, 4, 2)
    )
    return left, right, centre
