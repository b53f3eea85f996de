"""Which frames the test pipelines of PaddleVideo's PP-TSM take.

`Sampler` of `paddlevideo/loader/pipelines/sample.py`. Its dense sampling takes the frames that
`preprocess.tensors.sampling.dense_test` takes; what else they share with other pipelines built on Pillow stands in
`preprocess.tensors.pillow_pixels`, the crops in `vidom.formats.crop_boxes`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["uniform_middles"]


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
