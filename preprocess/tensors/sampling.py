"""Which frames of a video a network sees.

Every function here does its float64 arithmetic in the order of mmaction2 0.24 `SampleFrames` and
`DenseSampleFrames` (mmaction/datasets/pipelines/loading.py): another order, or exact rationals, selects other
frames at some lengths. All return int64 arrays of `clips * clip_len` frame indices, clip after clip.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["OutOfBound", "dense_test", "dense_train", "uniform_test", "uniform_train"]

OutOfBound = Literal["loop", "repeat_last"]
_Numbers = NDArray[np.int64] | NDArray[np.float64]


def uniform_test(
    total_frames: int,
    *,
    num_clips: int,
    clip_len: int = 1,
    frame_interval: int = 1,
    twice_sample: bool = False,
    out_of_bound: OutOfBound = "loop",
    start_index: int = 0,
) -> NDArray[np.int64]:
    """The video is cut into `num_clips` equal stretches and each gives the clip around its middle.

    With `twice_sample` the clips at the middles come first and those at the beginnings of the stretches second.
    A video shorter than one clip gives `num_clips` clips from frame 0, and does not give them twice.
    """
    span = clip_len * frame_interval
    if total_frames < span:
        offsets = np.zeros(num_clips)
    else:
        stretch = (total_frames - span + 1) / float(num_clips)
        beginnings = np.arange(num_clips) * stretch
        # The middles are whole numbers before the clip is laid out, the beginnings only after it.
        offsets = np.trunc(beginnings + stretch / 2.0)
        if twice_sample:
            offsets = np.concatenate([offsets, beginnings])
    frames = _lay_out(offsets, clip_len, frame_interval)
    return _bounded(frames, total_frames, out_of_bound, start_index)


def uniform_train(
    total_frames: int,
    random: np.random.RandomState,
    *,
    num_clips: int,
    clip_len: int = 1,
    frame_interval: int = 1,
    keep_tail_frames: bool = False,
    temporal_jitter: bool = False,
    out_of_bound: OutOfBound = "loop",
    start_index: int = 0,
) -> NDArray[np.int64]:
    """The video is cut into `num_clips` equal stretches and each gives a clip at a random place in it.

    `keep_tail_frames` cuts into fractional stretches, so that the last frames can be drawn too;
    `temporal_jitter` moves every frame by less than `frame_interval`.
    """
    span = clip_len * frame_interval
    if keep_tail_frames:
        offsets = _train_offsets_to_the_end(total_frames, random, num_clips, span)
    else:
        offsets = _train_offsets(total_frames, random, num_clips, span)
    frames = _lay_out(offsets, clip_len, frame_interval)
    if temporal_jitter:
        frames = frames + random.randint(frame_interval, size=frames.size).reshape(frames.shape)
    return _bounded(frames, total_frames, out_of_bound, start_index)


def dense_test(
    total_frames: int,
    *,
    num_clips: int,
    clip_len: int = 1,
    frame_interval: int = 1,
    sample_range: int = 64,
    num_positions: int = 10,
    out_of_bound: OutOfBound = "loop",
    start_index: int = 0,
) -> NDArray[np.int64]:
    """`num_positions` windows of `sample_range` frames, spread over the video, each give `num_clips` clips."""
    offsets = np.arange(num_clips) * (sample_range // num_clips)
    last = max(1, 1 + total_frames - sample_range) - 1
    starts = np.linspace(0, last, num=num_positions, dtype=np.int64)
    frames = _lay_out((starts[:, None] + offsets).ravel() % total_frames, clip_len, frame_interval)
    return _bounded(frames, total_frames, out_of_bound, start_index)


def dense_train(
    total_frames: int,
    random: np.random.RandomState,
    *,
    num_clips: int,
    clip_len: int = 1,
    frame_interval: int = 1,
    sample_range: int = 64,
    out_of_bound: OutOfBound = "loop",
    start_index: int = 0,
) -> NDArray[np.int64]:
    """One window of `sample_range` frames at a random place gives `num_clips` evenly spaced clips.

    The last possible place is never drawn, as in the original.
    """
    offsets = np.arange(num_clips) * (sample_range // num_clips)
    places = max(1, 1 + total_frames - sample_range)
    start = 0 if places == 1 else random.randint(0, places - 1)
    frames = _lay_out((start + offsets) % total_frames, clip_len, frame_interval)
    return _bounded(frames, total_frames, out_of_bound, start_index)


def _train_offsets(total_frames: int, random: np.random.RandomState, num_clips: int, span: int) -> _Numbers:
    places = total_frames - span + 1
    stretch = places // num_clips
    if stretch > 0:
        return np.arange(num_clips) * stretch + random.randint(stretch, size=num_clips)
    if total_frames > max(num_clips, span):
        return np.sort(random.randint(places, size=num_clips))
    if stretch == 0:
        return np.around(np.arange(num_clips) * (places / float(num_clips)))
    return np.zeros(num_clips)


def _train_offsets_to_the_end(
    total_frames: int, random: np.random.RandomState, num_clips: int, span: int
) -> _Numbers:
    if total_frames < span:
        return np.zeros(num_clips)
    stretch = (total_frames - span + 1) / float(num_clips)
    return np.trunc(np.arange(num_clips) * stretch + random.uniform(0, stretch, num_clips))


def _lay_out(offsets: _Numbers, clip_len: int, frame_interval: int) -> _Numbers:
    """Return [clips, clip_len] frame positions, not yet confined to the video."""
    return offsets[:, None] + np.arange(clip_len)[None, :] * frame_interval


def _bounded(
    frames: _Numbers,
    total_frames: int,
    out_of_bound: OutOfBound,
    start_index: int,
) -> NDArray[np.int64]:
    if out_of_bound == "loop":
        inside = np.mod(frames, total_frames)
    else:
        last = np.where(frames < total_frames, frames, 0).max(axis=1, keepdims=True)
        inside = np.where(frames < total_frames, frames, last)
    return (inside.ravel() + start_index).astype(np.int64)
