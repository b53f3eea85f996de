"""From a video to the tensor of one sample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preprocess.annotations import Annotation
from preprocess.crops import Box, center_crop, short_side_size, three_crop
from preprocess.frames import FrameSource, RawFrames, check_frame_size
from preprocess.pixels import Dtype, Image, Table, pixel_table, resize, split_planes, write_crop
from preprocess.sampling import dense_test, uniform_test
from preprocess.video import VideoFile
from vidom.errors import BadData
from vidom.views import ViewPlan

__all__ = ["PreparedSample", "crop_boxes", "frame_positions", "make_sample", "open_source"]


@dataclass(frozen=True, eq=False)
class PreparedSample:
    """One sample's tensor, and the numbers of the frames it was made of.

    `tensor` is [frames_per_sample, 3, crop_size, crop_size], crop by crop; every crop sees `frames` in this
    order, numbered as their source numbers them.
    """

    tensor: Table
    frames: tuple[int, ...]


def open_source(
    annotation: Annotation, *, data_root: Path, template: str = "img_{:05}.jpg", first_index: int = 1
) -> FrameSource:
    """Return the source of the annotated video; nothing is read yet.

    `template` and `first_index` say how extracted frames are named and where their numbers begin.
    """
    path = data_root / annotation.path
    if annotation.total_frames is None:
        return VideoFile(path)
    return RawFrames(
        path, annotation.total_frames, template=template, first_index=first_index + annotation.offset
    )


def make_sample(
    source: FrameSource, plan: ViewPlan, *, dtype: Dtype = "float32", out: Table | None = None
) -> PreparedSample:
    """Return the sample that the view plan makes of a video, bit for bit as mmaction2's test pipeline does.

    float32 is normalised; uint8 holds the pixels before normalisation. Each frame is decoded and resized once
    and goes straight to its places in the tensor, which is `out` where given (C-contiguous, of the plan's
    sample_shape and of `dtype`). Raises BadData, naming the source, for a video without frames, frames of
    differing sizes, or frames that are missing, damaged or too large.
    """
    positions = frame_positions(source, plan)
    tensor = _tensor(plan, dtype, out)
    crops = tensor.reshape(plan.crops, positions.size, *tensor.shape[1:])
    table = pixel_table(mean=plan.mean, std=plan.std, dtype=dtype)
    for position, image in _resized_frames(source, np.unique(positions).tolist(), plan):
        planes = split_planes(image, colour=plan.colour)
        boxes = crop_boxes(image.shape[1], image.shape[0], plan)
        for slot in np.flatnonzero(positions == position):
            for views, box in zip(crops, boxes, strict=True):
                write_crop(planes, box, table, views[slot])
    return PreparedSample(tensor, tuple((positions + source.first_index).tolist()))


def frame_positions(source: FrameSource, plan: ViewPlan) -> NDArray[np.int64]:
    """Return the positions, from 0, of the frames of each crop, in the order of the tensor.

    Raises BadData for a source without frames.
    """
    total = source.total_frames
    if total < 1:
        raise BadData(f"{source.name} has {total} frames, at least 1 is needed. Take it out of the list.")
    if plan.sampling == "dense":
        return dense_test(total, num_clips=plan.num_segments, frame_interval=plan.frame_interval)
    return uniform_test(
        total,
        num_clips=plan.num_segments,
        frame_interval=plan.frame_interval,
        twice_sample=plan.twice_sample,
    )


def crop_boxes(width: int, height: int, plan: ViewPlan) -> tuple[Box, ...]:
    """Return the plan's crops of a resized frame, in the order of the tensor."""
    if plan.crop == "three":
        return three_crop(width, height, size=plan.crop_size)
    return (center_crop(width, height, size=plan.crop_size),)


def _tensor(plan: ViewPlan, dtype: Dtype, out: Table | None) -> Table:
    if out is None:
        return np.empty(plan.sample_shape, dtype)
    if out.shape != plan.sample_shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise ValueError(
            f"out must be C-contiguous {dtype} {plan.sample_shape}, found {out.dtype} {out.shape}"
        )
    return out


def _resized_frames(source: FrameSource, positions: list[int], plan: ViewPlan) -> Iterator[tuple[int, Image]]:
    size: tuple[int, int] | None = None
    for position, image in zip(positions, source.read(positions), strict=True):
        height, width = image.shape[:2]
        size = size or (width, height)
        if size != (width, height):
            raise BadData(
                f"Frame {source.first_index + position} of {source.name} measures {width}x{height} pixels, the "
                f"first one {size[0]}x{size[1]}. Extract or encode the video again at one size."
            )
        width, height = short_side_size(width, height, short_side=plan.short_side)
        # A very long and narrow frame would grow beyond measure.
        check_frame_size(width, height, name=f"{source.name}, resized,")
        yield position, resize(image, width, height)
