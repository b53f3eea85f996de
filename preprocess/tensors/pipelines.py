"""What the original frameworks' test pipelines do, step by step: sample, decode, resize, crop, normalise.

mmaction2 works with OpenCV and keeps the aspect of a frame; PaddleVideo and MindSpore's StNet work with
Pillow, antialias, and squeeze a frame to 4:3. A view plan names the pipeline; nothing is "about the same".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from preprocess.sources.frames import FrameSource, check_frame_size, decode_jpeg
from preprocess.tensors.crops import short_side_size
from preprocess.tensors.pillow_pixels import (
    decode_with_pillow,
    four_by_three,
    resize_with_pillow,
    unit_pixel_table,
)
from preprocess.tensors.pixels import Dtype, Image, Table, pixel_table, resize
from preprocess.tensors.sampling import dense_test, uniform_test
from preprocess.tensors.sampling_mindspore import segment_runs
from preprocess.tensors.sampling_paddlevideo import uniform_middles
from vidom.errors import BadDataError
from vidom.formats.views import Pipeline, ViewPlan

__all__ = ["frame_positions", "jpeg_decoder", "lookup_table", "resized_frames"]


def frame_positions(source: FrameSource, plan: ViewPlan) -> NDArray[np.int64]:
    """Return the `frames_per_crop` positions, from 0, of the frames of each crop in the order of the tensor.

    Raises BadDataError for a source without frames.
    """
    total_frames = source.total_frames
    if total_frames < 1:
        raise BadDataError(
            f"{source.name} has {total_frames} frames, at least 1 is needed. Take it out of the list."
        )
    if plan.sampling == "dense":
        return dense_test(
            total_frames,
            num_clips=plan.num_segments,
            clip_len=plan.clip_len,
            frame_interval=plan.frame_interval,
        )
    if plan.pipeline == "paddlevideo":
        return uniform_middles(total_frames, num_segments=plan.num_segments)
    if plan.pipeline == "mindspore":
        return segment_runs(total_frames, num_segments=plan.num_segments, run_length=plan.clip_len)
    return uniform_test(
        total_frames,
        num_clips=plan.num_segments,
        clip_len=plan.clip_len,
        frame_interval=plan.frame_interval,
        twice_sample=plan.twice_sample,
    )


def jpeg_decoder(pipeline: Pipeline) -> Callable[..., Image]:
    """Return the pipeline's decoder of extracted frames, `decode(content, name=...)`."""
    return decode_jpeg if pipeline == "mmaction2" else decode_with_pillow


def resized_frames(source: FrameSource, positions: list[int], plan: ViewPlan) -> Iterator[Image]:
    """Yield the frames at these increasing positions at the size that crops are taken of.

    Raises BadDataError, naming the source, for frames of differing sizes, and for frames so long and narrow that
    they would grow beyond measure.
    """
    shape: tuple[int, ...] | None = None
    for position, image in zip(positions, source.read(positions), strict=True):
        shape = shape or image.shape
        if image.shape != shape:
            raise BadDataError(
                f"Frame {source.first_index + position} of {source.name} measures {image.shape[1]}x{image.shape[0]}, "
                f"the frames before it {shape[1]}x{shape[0]}. Extract or encode the video again at one size."
            )
        yield _resized(image, plan, name=source.name)


def _resized(image: Image, plan: ViewPlan, *, name: str) -> Image:
    height, width = image.shape[:2]
    if plan.pipeline == "mmaction2":
        size = short_side_size(width, height, short_side=plan.short_side)
    else:
        wide_square = plan.pipeline == "mindspore"
        size = four_by_three(width, height, short_side=plan.short_side, wide_square=wide_square)
    check_frame_size(*size, name=f"{name}, resized,")
    return (resize if plan.pipeline == "mmaction2" else resize_with_pillow)(image, *size)


def lookup_table(plan: ViewPlan, dtype: Dtype) -> Table | None:
    """Return [3, 256], what each pixel value of each channel becomes, or None for uint8, where they stay."""
    if dtype == "uint8":
        return None
    if plan.pipeline == "mmaction2":
        return pixel_table(mean=plan.mean, std=plan.std)
    return unit_pixel_table(mean=plan.mean, std=plan.std)
