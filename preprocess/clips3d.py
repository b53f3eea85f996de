"""From a video to the views of a three-dimensional network: clips of consecutive frames, channels before time.

The order of steps and every rounding are those of mmaction2 0.24 (`SampleFrames` or `DenseSampleFrames`,
`Resize`, `ThreeCrop` or `CenterCrop`, `Normalize`, `FormatShape` to NCTHW).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocess.crops import Box, center_crop, short_side_size, three_crop
from preprocess.frames import FrameSource, check_frame_size
from preprocess.pixels import Dtype, Image, Table, pixel_table, resize, split_planes, write_crop
from preprocess.sampling import dense_test, uniform_test
from vidom.errors import BadData
from vidom.views import ViewPlan

__all__ = ["ClipCrops", "clip_positions", "clip_tensor", "clip_views", "read_clips"]


@dataclass(frozen=True, eq=False)
class ClipCrops:
    """The pixels that the views of one video are made of: each crop of each needed frame once.

    View v of a sample is clip v % clips of crop v // clips. The ten clips of a long video share many frames,
    so this takes a fifth of what its views take as float32, at most 189 MB for thirty views of 32 frames of
    256x256, whatever the video's size.
    """

    pixels: NDArray[np.uint8]
    """[crops, needed frames, 3, crop_size, crop_size], before normalisation, in the plan's order of colours."""
    slots: NDArray[np.int64]
    """[clips, clip_len]: which of the needed frames each clip has at each time."""
    frames: tuple[int, ...]
    """The frames of each crop, clip after clip, numbered as their source numbers them."""

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """The shape of all views together: (views, 3, clip_len, crop_size, crop_size)."""
        clips, clip_len = self.slots.shape
        crops, _, channels, height, width = self.pixels.shape
        return crops * clips, channels, clip_len, height, width


def clip_positions(source: FrameSource, plan: ViewPlan) -> NDArray[np.int64]:
    """Return [clips, clip_len] positions, from 0, of the frames of the clips of each crop.

    Uniform sampling gives `num_segments` clips; dense sampling ten times as many. Raises BadData for a source
    without frames.
    """
    total = source.total_frames
    if total < 1:
        raise BadData(f"{source.name} has {total} frames, at least 1 is needed. Take it out of the list.")
    if plan.sampling == "dense":
        frames = dense_test(
            total,
            num_clips=plan.num_segments,
            clip_len=plan.clip_len,
            frame_interval=plan.frame_interval,
        )
    else:
        frames = uniform_test(
            total,
            num_clips=plan.num_segments,
            clip_len=plan.clip_len,
            frame_interval=plan.frame_interval,
            twice_sample=plan.twice_sample,
        )
    return frames.reshape(-1, plan.clip_len)


def read_clips(source: FrameSource, plan: ViewPlan) -> ClipCrops:
    """Return the crops of the frames that the plan's clips are made of.

    Each frame is decoded and resized once, however many clips it is in. Raises BadData, naming the source, for
    a video without frames, frames of differing sizes, or frames that are missing, damaged or too large.
    """
    positions = clip_positions(source, plan)
    needed, slots = np.unique(positions, return_inverse=True)
    size = plan.crop_size
    pixels = np.empty((plan.crops, needed.size, 3, size, size), np.uint8)
    as_it_is = pixel_table(mean=plan.mean, std=plan.std, dtype="uint8")
    for slot, image in enumerate(_resized_frames(source, needed.tolist(), short_side=plan.short_side)):
        planes = split_planes(image, colour=plan.colour)
        for target, box in zip(pixels, _boxes(image, plan), strict=True):
            write_crop(planes, box, as_it_is, target[slot])
    return ClipCrops(
        pixels=pixels,
        slots=slots.reshape(positions.shape),
        frames=tuple((positions.ravel() + source.first_index).tolist()),
    )


def clip_views(crops: ClipCrops, plan: ViewPlan, *, dtype: Dtype = "float32") -> Iterator[Table]:
    """Yield the views, [3, clip_len, crop_size, crop_size] each, crop after crop and within it clip after clip.

    They are bit for bit those of mmaction2's test pipeline. float32 is normalised; uint8 holds the pixels
    before normalisation. Only one view is held at a time: thirty of 32 frames of 256x256 are 755 MB.
    """
    table = pixel_table(mean=plan.mean, std=plan.std, dtype=dtype)
    views, *shape = crops.shape
    for view in range(views):
        out = np.empty(shape, dtype)
        _write_view(crops, view, table, out)
        yield out


def clip_tensor(
    crops: ClipCrops, plan: ViewPlan, *, dtype: Dtype = "float32", out: Table | None = None
) -> Table:
    """Return all views of `clip_views` as one tensor [views, 3, clip_len, crop_size, crop_size].

    It is `out` where given: C-contiguous, of that shape and of `dtype`, else ValueError.
    """
    if out is None:
        out = np.empty(crops.shape, dtype)
    elif out.shape != crops.shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise ValueError(f"out must be C-contiguous {dtype} {crops.shape}, found {out.dtype} {out.shape}")
    table = pixel_table(mean=plan.mean, std=plan.std, dtype=dtype)
    for view, target in enumerate(out):
        _write_view(crops, view, table, target)
    return out


def _write_view(crops: ClipCrops, view: int, table: Table, out: Table) -> None:
    crop, clip = divmod(view, len(crops.slots))
    whole = Box(0, 0, out.shape[-1], out.shape[-2])
    for time, slot in enumerate(crops.slots[clip]):
        write_crop(crops.pixels[crop, slot], whole, table, out[:, time])


def _boxes(image: Image, plan: ViewPlan) -> tuple[Box, ...]:
    height, width = image.shape[:2]
    if plan.crop == "three":
        return three_crop(width, height, size=plan.crop_size)
    return (center_crop(width, height, size=plan.crop_size),)


def _resized_frames(source: FrameSource, positions: list[int], *, short_side: int) -> Iterator[Image]:
    first: tuple[int, ...] | None = None
    for position, image in zip(positions, source.read(positions), strict=True):
        first = first or image.shape
        if image.shape != first:
            raise BadData(
                f"Frame {source.first_index + position} of {source.name} is {image.shape[1]}x{image.shape[0]} "
                f"pixels large, the first one {first[1]}x{first[0]}. Extract or encode the video again at one size."
            )
        width, height = short_side_size(image.shape[1], image.shape[0], short_side=short_side)
        # A very long and narrow frame would grow beyond measure.
        check_frame_size(width, height, name=f"{source.name}, resized,")
        yield resize(image, width, height)
