"""Temporal sampling: which frames of a video a network sees.

`uniform_test`, `uniform_train`, `dense_test` and `dense_train` do their float64 arithmetic in the order of mmaction2
0.24 `SampleFrames` and `DenseSampleFrames` (mmaction/datasets/pipelines/loading.py): a different order, or exact
rationals, selects different frames for some lengths. PaddleVideo's and MindSpore's samplers follow them. All return
int64 arrays of `clips * clip_len` frame indices, clip after clip.
"""

from __future__ import annotations

from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "OutOfBound",
    "dense_test",
    "dense_train",
    "segment_runs",
    "segment_runs_train",
    "uniform_middles",
    "uniform_test",
    "uniform_train",
]

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
    """Return one clip around the middle of each of `num_clips` equal segments of the video.

    With `twice_sample` the clips at the middles come first, then those at the beginnings of the segments. A video
    shorter than one clip gives `num_clips` clips from frame 0, and not twice. The other arguments are those of
    `uniform_train`.
    """
    span = clip_len * frame_interval
    if total_frames < span:
        offsets = np.zeros(num_clips)
    else:
        segment = (total_frames - span + 1) / float(num_clips)
        beginnings = np.arange(num_clips) * segment
        # The middles are truncated before the clip is laid out, the beginnings only after it.
        offsets = np.trunc(beginnings + segment / 2.0)
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
    """Return one clip at a random position of each of `num_clips` equal segments of the video.

    Args:
        total_frames: the number of frames of the video.
        random: the source of randomness, of the legacy numpy kind that mmaction2 uses.
        num_clips: the number of segments.
        clip_len: frames per clip.
        frame_interval: the distance between the frames of a clip.
        keep_tail_frames: use fractional segments, so that the last frames can be sampled too.
        temporal_jitter: shift every frame by less than `frame_interval`.
        out_of_bound: what happens to indices past the last frame.
        start_index: the number of the first frame.
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
    """Return `num_clips` clips of each of `num_positions` windows of `sample_range` frames, spread over the video.

    Args:
        total_frames: the number of frames of the video.
        num_clips: clips per window, evenly spaced.
        clip_len: frames per clip.
        frame_interval: the distance between the frames of a clip.
        sample_range: frames per window.
        num_positions: the number of windows.
        out_of_bound: what happens to indices past the last frame.
        start_index: the number of the first frame.
    """
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
    """Return `num_clips` evenly spaced clips of one window of `sample_range` frames at a random position.

    The last possible position is never chosen, as in the original. The arguments are those of `dense_test` and
    `uniform_train`.
    """
    offsets = np.arange(num_clips) * (sample_range // num_clips)
    starts = max(1, 1 + total_frames - sample_range)
    start = 0 if starts == 1 else random.randint(0, starts - 1)
    frames = _lay_out((start + offsets) % total_frames, clip_len, frame_interval)
    return _bounded(frames, total_frames, out_of_bound, start_index)


def uniform_middles(total_frames: int, *, num_segments: int) -> NDArray[np.int64]:
    """Return the middle frame of each of `num_segments` equal segments, as PaddleVideo's PP-TSM does.

    Source: `Sampler` of `paddlevideo/loader/pipelines/sample.py`. In a segment with an even number of frames the
    earlier of the two middle frames is used; the remainder is at the end of the video. A video with fewer frames than
    segments gives its frames in order and then starts again. PaddleVideo's
    dense sampling is that of `dense_test`.

    The original does this for video files. For extracted frames it adds 1, so that position 0 is img_00001.jpg, but
    does not start again: it requests files that do not exist, and silently tests on a different sample instead.
    """
    length = total_frames // num_segments
    positions = np.arange(num_segments) * max(length, 1) + max(length - 1, 0) // 2
    return positions.astype(np.int64) % total_frames


def segment_runs(total_frames: int, *, num_segments: int, run_length: int) -> NDArray[np.int64]:
    """Return the `run_length` middle frames of each of `num_segments` equal segments, run after run, as StNet does.

    Source: `video_loader` of MindSpore's `research/cv/stnet/src/dataset.py`. Segments shorter than a run give the run
    from their beginning; a video with fewer frames than segments gives the runs from frames 0, 1, 2... Indices past
    the last frame wrap around. Frames after the last complete segment are never used.
    """
    length = total_frames // num_segments
    starts = np.arange(num_segments) * max(length, 1) + max(length - run_length, 0) // 2
    return _runs(starts, run_length, total_frames)


def segment_runs_train(
    total_frames: int, generator: Random, *, num_segments: int, run_length: int
) -> NDArray[np.int64]:
    """Return runs as `segment_runs` does, each at a random position of its segment if that is long enough."""
    length = total_frames // num_segments
    if length < run_length:
        return segment_runs(total_frames, num_segments=num_segments, run_length=run_length)
    starts = [segment * length + generator.randint(0, length - run_length) for segment in range(num_segments)]
    return _runs(np.array(starts), run_length, total_frames)


def _train_offsets(total_frames: int, random: np.random.RandomState, num_clips: int, span: int) -> _Numbers:
    starts = total_frames - span + 1
    segment = starts // num_clips
    if segment > 0:
        return np.arange(num_clips) * segment + random.randint(segment, size=num_clips)
    if total_frames > max(num_clips, span):
        return np.sort(random.randint(starts, size=num_clips))
    if segment == 0:
        return np.around(np.arange(num_clips) * (starts / float(num_clips)))
    return np.zeros(num_clips)


def _train_offsets_to_the_end(
    total_frames: int, random: np.random.RandomState, num_clips: int, span: int
) -> _Numbers:
    if total_frames < span:
        return np.zeros(num_clips)
    segment = (total_frames - span + 1) / float(num_clips)
    return np.trunc(np.arange(num_clips) * segment + random.uniform(0, segment, num_clips))


def _lay_out(offsets: _Numbers, clip_len: int, frame_interval: int) -> _Numbers:
    """Return [clips, clip_len] frame positions, not yet limited to the video."""
    return offsets[:, None] + np.arange(clip_len)[None, :] * frame_interval


def _bounded(
    frames: _Numbers,
    total_frames: int,
    out_of_bound: OutOfBound,
    start_index: int,
) -> NDArray[np.int64]:
    if out_of_bound == "loop":
        bounded = np.mod(frames, total_frames)
    else:
        last = np.where(frames < total_frames, frames, 0).max(axis=1, keepdims=True)
        bounded = np.where(frames < total_frames, frames, last)
    return (bounded.ravel() + start_index).astype(np.int64)


def _runs(starts: NDArray[np.int64], run_length: int, total_frames: int) -> NDArray[np.int64]:
    frames = starts[:, None] + np.arange(run_length)
    return (frames % total_frames).ravel().astype(np.int64)
