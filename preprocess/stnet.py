"""From a video to the super-images of StNet, as MindSpore's `research/cv/stnet/src/dataset.py` makes them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from preprocess.frames import FrameSource
from preprocess.pillow_pixels import (
    four_by_three,
    resize_with_pillow,
    rounded_center_crop,
    unit_pixel_table,
)
from preprocess.pixels import Image, split_planes, write_crop
from preprocess.samples import PreparedSample
from vidom.errors import BadData

__all__ = ["InputLayout", "segment_runs", "segment_runs_train", "stnet_sample"]

InputLayout = Literal["A", "B"]


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


def stnet_sample(
    source: FrameSource,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    num_segments: int = 7,
    frames_per_segment: int = 5,
    short_side: int = 256,
    crop_size: int = 224,
    input_layout: InputLayout = "A",
) -> PreparedSample:
    """Return the tensor of one video, bit for bit as the original's evaluation pipeline makes it.

    With T segments of N frames it is float32 [T, 3N, crop_size, crop_size] in layout A, frame by frame red,
    green, blue; [3, T*N, crop_size, crop_size] in layout B. `mean` and `std` are on the scale 0..1. Bit for bit
    holds where frames are decoded with Pillow, as `PackedFrames` does. Raises BadData for a video without frames,
    and as the source does.
    """
    total = source.total_frames
    if total < 1:
        raise BadData(f"{source.name} has {total} frames, at least 1 is needed. Take it out of the list.")
    positions = segment_runs(total, num_segments=num_segments, run_length=frames_per_segment)
    frames = np.empty((positions.size, 3, crop_size, crop_size), np.float32)
    table = unit_pixel_table(mean=mean, std=std)
    wanted = np.unique(positions)
    for position, image in zip(wanted.tolist(), source.read(wanted.tolist()), strict=True):
        slots = np.flatnonzero(positions == position)
        _write(image, table, frames[slots[0]], short_side=short_side)
        frames[slots[1:]] = frames[slots[0]]
    if input_layout == "A":
        tensor = frames.reshape(num_segments, 3 * frames_per_segment, crop_size, crop_size)
    else:
        tensor = np.ascontiguousarray(frames.transpose(1, 0, 2, 3))
    return PreparedSample(tensor, tuple((positions + source.first_index).tolist()))


def _write(image: Image, table: NDArray[np.float32], out: NDArray[np.float32], *, short_side: int) -> None:
    width, height = four_by_three(image.shape[1], image.shape[0], short_side=short_side, wide_square=True)
    box = rounded_center_crop(width, height, size=out.shape[-1])
    write_crop(split_planes(resize_with_pillow(image, width, height), colour="rgb"), box, table, out)


def _runs(starts: NDArray[np.int64], run_length: int, total_frames: int) -> NDArray[np.int64]:
    frames = starts[:, None] + np.arange(run_length)
    return (frames % total_frames).ravel().astype(np.int64)
