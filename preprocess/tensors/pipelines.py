"""The test pipelines of the original frameworks, step by step: sample, decode, resize, normalise.

mmaction2 uses OpenCV and keeps the aspect ratio of a frame; PaddleVideo (`loader/pipelines/augmentations.py`) and
MindSpore's StNet (`src/dataset.py`) use Pillow, antialias, and squeeze a frame to 4:3. A view plan names its pipeline,
which is reproduced exactly. Crops are in `vidom.formats.crop_boxes`, because exported graphs cut them too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from preprocess.sources.frames import FrameSource
from preprocess.sources.image_files import Image, check_frame_size, decode_with_opencv, decode_with_pillow
from preprocess.tensors.crops import short_side_size
from preprocess.tensors.pillow_pixels import four_by_three, resize_with_pillow, unit_pixel_table
from preprocess.tensors.pixels import Dtype, Table, pixel_table, resize
from preprocess.tensors.sampling import dense_test, segment_runs, uniform_middles, uniform_test
from vidom.errors import BadDataError
from vidom.formats.views import Pipeline, ViewPlan

__all__ = ["PIPELINES", "FrameworkPipeline", "frame_positions", "lookup_table", "resized_frames"]


@dataclass(frozen=True)
class FrameworkPipeline:
    """The steps of one framework's test pipeline.

    `sample(total_frames, plan)` returns the positions of uniform sampling; dense sampling is the same in all.
    `decode_image(content, name=...)` decodes extracted frames. `size(width, height, short_side=...)` is the size that
    frames are resized to by `resize(image, width, height, out=None)`. `pixel_table(mean=..., std=...)` normalises.
    """

    library: Literal["opencv", "pillow"]
    sample: Callable[[int, ViewPlan], NDArray[np.int64]]
    decode_image: Callable[..., Image]
    size: Callable[..., tuple[int, int]]
    resize: Callable[..., Image]
    pixel_table: Callable[..., Table]


def _uniform(total_frames: int, plan: ViewPlan) -> NDArray[np.int64]:
    return uniform_test(
        total_frames,
        num_clips=plan.num_segments,
        clip_len=plan.clip_len,
        frame_interval=plan.frame_interval,
        twice_sample=plan.twice_sample,
    )


def _middles(total_frames: int, plan: ViewPlan) -> NDArray[np.int64]:
    return uniform_middles(total_frames, num_segments=plan.num_segments)


def _runs(total_frames: int, plan: ViewPlan) -> NDArray[np.int64]:
    return segment_runs(total_frames, num_segments=plan.num_segments, run_length=plan.clip_len)


PIPELINES: Mapping[Pipeline, FrameworkPipeline] = MappingProxyType(
    {
        "mmaction2": FrameworkPipeline(
            "opencv", _uniform, decode_with_opencv, short_side_size, resize, pixel_table
        ),
        "paddlevideo": FrameworkPipeline(
            "pillow",
            _middles,
            decode_with_pillow,
            partial(four_by_three, wide_square=False),
            resize_with_pillow,
            unit_pixel_table,
        ),
        "mindspore": FrameworkPipeline(
            "pillow",
            _runs,
            decode_with_pillow,
            partial(four_by_three, wide_square=True),
            resize_with_pillow,
            unit_pixel_table,
        ),
    }
)


def frame_positions(source: FrameSource, plan: ViewPlan) -> NDArray[np.int64]:
    """Return the `frames_per_crop` positions, from 0, of the frames of each crop in tensor order.

    Raises BadDataError for a source without frames.
    """
    total_frames = source.total_frames
    if total_frames < 1:
        raise BadDataError(
            f"{source.name} has {total_frames} frames; at least 1 is required. Remove it from the list."
        )
    if plan.sampling == "dense":
        return dense_test(
            total_frames,
            num_clips=plan.num_segments,
            clip_len=plan.clip_len,
            frame_interval=plan.frame_interval,
        )
    return PIPELINES[plan.pipeline].sample(total_frames, plan)


def resized_frames(source: FrameSource, positions: list[int], plan: ViewPlan) -> Iterator[Image]:
    """Yield the frames at these increasing positions, resized to the size from which crops are taken.

    Raises BadDataError, naming the source, for frames of different sizes, and for frames so long and narrow that the
    resized frame would exceed the size limit.
    """
    pipeline = PIPELINES[plan.pipeline]
    shape: tuple[int, ...] | None = None
    for position, image in zip(positions, source.read(positions), strict=True):
        shape = shape or image.shape
        if image.shape != shape:
            raise BadDataError(
                f"Frame {source.first_index + position} of {source.name} measures {image.shape[1]}x{image.shape[0]}, "
                f"the frames before it {shape[1]}x{shape[0]}. Extract or encode the video again at one size."
            )
        size = pipeline.size(image.shape[1], image.shape[0], short_side=plan.short_side)
        check_frame_size(*size, name=f"{source.name}, resized,")
        yield pipeline.resize(image, *size)


def lookup_table(plan: ViewPlan, dtype: Dtype) -> Table | None:
    """Return the normalised value of each pixel value and channel, [3, 256], or None for uint8."""
    if dtype == "uint8":
        return None
    return PIPELINES[plan.pipeline].pixel_table(mean=plan.mean, std=plan.std)
