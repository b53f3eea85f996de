"""The views of a sample one at a time, for samples whose tensor is too large."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocess.sources.frames import FrameSource
from preprocess.tensors.pipelines import frame_positions, lookup_table, resized_frames
from preprocess.tensors.pixels import Dtype, Table, Tensor, split_planes, write_crop
from vidom.formats.crop_boxes import Box, crop_boxes
from vidom.formats.views import ViewPlan

__all__ = ["ClipCrops", "clip_views", "read_clips"]


@dataclass(frozen=True, eq=False)
class ClipCrops:
    """The pixels of all views of one video: each crop of each required frame once.

    View v of a sample is clip v % clips of crop v // clips. Clips share frames, so this takes at most a quarter of
    the memory of all views as float32: at most 189 MB for thirty views of 32 frames of 256x256, regardless of the
    size of the video.
    """

    pixels: NDArray[np.uint8]
    """[crops, required frames, 3, crop_size, crop_size], before normalisation, in the plan's channel order."""
    slots: NDArray[np.int64]
    """[clips, frames]: the index of the required frame that each clip shows at each time."""
    frames: tuple[int, ...]
    """The frames of each crop, clip after clip, numbered as in their source."""

    @property
    def views(self) -> int:
        """The number of views."""
        return len(self.pixels) * len(self.slots)


def read_clips(source: FrameSource, plan: ViewPlan) -> ClipCrops:
    """Return the crops of the frames that the plan's clips show.

    Each frame is decoded and resized once, even if several clips show it. Raises BadDataError, naming the source, for
    a video without frames, frames of different sizes, or frames that are missing, damaged or too large.
    """
    positions = frame_positions(source, plan)
    needed, slots = np.unique(positions, return_inverse=True)
    size = plan.crop_size
    pixels = np.empty((plan.crops, needed.size, 3, size, size), np.uint8)
    images = resized_frames(source, needed.tolist(), plan)
    for slot, planes in enumerate(split_planes(images, colour=plan.colour)):
        for target, box in zip(pixels, crop_boxes(planes.shape[2], planes.shape[1], plan), strict=True):
            write_crop(planes, box, None, target[slot])
    return ClipCrops(
        pixels=pixels,
        slots=slots.reshape(-1, plan.one_view.frames_per_crop),
        frames=tuple((positions + source.first_index).tolist()),
    )


def clip_views(crops: ClipCrops, plan: ViewPlan, *, dtype: Dtype = "float32") -> Iterator[Tensor]:
    """Yield the views in the order of the sample's tensor: crop after crop, and within a crop clip after clip.

    Each is [3, clip_len, crop_size, crop_size] in layout NCTHW, [num_segments, 3, crop_size, crop_size] in NCHW.
    They are bit for bit those of `make_sample`. float32 is normalised; uint8 holds the pixels before
    normalisation. Only one view is in memory at a time: thirty of 32 frames of 256x256 are 755 MB.
    """
    table = lookup_table(plan, dtype)
    # The first axis of a 3D network's sample is its views; it is dropped.
    shape = plan.one_view.sample_shape[-4:]
    for view in range(crops.views):
        out = np.empty(shape, dtype)
        _write_view(crops, view, table, out.swapaxes(0, 1) if plan.layout == "NCTHW" else out)
        yield out


def _write_view(crops: ClipCrops, view: int, table: Table | None, frames: Tensor) -> None:
    """Write the frames of the view to `frames` [frames, 3, size, size]."""
    crop, clip = divmod(view, len(crops.slots))
    box = Box(0, 0, frames.shape[-1], frames.shape[-2])
    for slot, frame in zip(crops.slots[clip], frames, strict=True):
        write_crop(crops.pixels[crop, slot], box, table, frame)
