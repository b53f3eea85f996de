"""Which frames StNet sees, as `video_loader` of MindSpore's `research/cv/stnet/src/dataset.py` chooses them."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

__all__ = ["segment_runs", "segment_runs_train"]


def segment_runs(total_frames: int, *, num_segments: int, run_length: int) -> NDArray[np.int64]:
    """The video is cut into `num_segments` equal stretches and each gives the run of frames in its middle.

    Returned are `num_segments * run_length` indices, run after run. Stretches shorter than a run give the run
    from their beginning, a video with fewer frames than stretches the runs from frames 0, 1, 2...; what
    reaches beyond the last frame goes on at the first. Frames behind the last whole stretch are never used.
    """
    stretch = total_frames // num_segments
    starts = np.arange(num_segments) * max(stretch, 1) + max(stretch - run_length, 0) // 2
    return _runs(starts, run_length, total_frames)


def segment_runs_train(
    total_frames: int, generator: random.Random, *, num_segments: int, run_length: int
) -> NDArray[np.int64]:
    """As `segment_runs`, but each run lies at a random place of its stretch, where there is room for one."""
    stretch = total_frames // num_segments
    if stretch < run_length:
        return segment_runs(total_frames, num_segments=num_segments, run_length=run_length)
    starts = [
        segment * stretch + generator.randint(0, stretch - run_length) for segment in range(num_segments)
    ]
    return _runs(np.array(starts), run_length, total_frames)


def _runs(starts: NDArray[np.int64], run_length: int, total_frames: int) -> NDArray[np.int64]:
    frames = starts[:, None] + np.arange(run_length)
    return (frames % total_frames).ravel().astype(np.int64)
