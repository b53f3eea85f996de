"""From a video to the tensor of one sample."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

from preprocess.datasets.annotations import Annotation
from preprocess.sources.frame_pack import PackedFrames
from preprocess.sources.frames import FrameSource, RawFrames
from preprocess.sources.video import VideoFile
from preprocess.tensors.pipelines import PIPELINES, frame_positions, lookup_table, resized_frames
from preprocess.tensors.pixels import Dtype, Planes, Tensor, split_planes, write_crop
from vidom.errors import BadDataError
from vidom.formats.crop_boxes import Box, crop_boxes
from vidom.formats.frame_naming import FrameNaming
from vidom.formats.views import Pipeline, ViewPlan

__all__ = ["PreparedSample", "decoder_name", "make_sample", "open_source"]


@dataclass(frozen=True, eq=False)
class PreparedSample:
    """One sample's tensor, and the numbers of the frames it was made of.

    `tensor` has the plan's sample_shape, crop by crop; every crop shows `frames` in this order, numbered as in their
    source.
    """

    tensor: Tensor
    frames: tuple[int, ...]


def open_source(
    annotation: Annotation,
    *,
    data_root: Path,
    pipeline: Pipeline = "mmaction2",
    naming: FrameNaming = FrameNaming(),
) -> FrameSource:
    """Return the source of the annotated video, a pack (.pkl), a video file or a frame folder, without reading it.

    `naming` is that of extracted frames; `pipeline` selects their decoder.
    """
    path = data_root / annotation.path
    if path.suffix == ".pkl":
        return PackedFrames(path)
    if annotation.total_frames is None:
        return VideoFile(path)
    return RawFrames(
        path,
        annotation.total_frames,
        naming=naming,
        offset=annotation.offset,
        decode=PIPELINES[pipeline].decode_image,
    )


def decoder_name(annotation: Annotation, pipeline: Pipeline) -> str:
    """Return the library that decodes the sample, its version, and the kind of source, as a clip store records it."""
    packed = annotation.path.endswith(".pkl")
    if annotation.total_frames is None and not packed:
        return f"PyAV {version('av')} on videos"
    opencv = PIPELINES[pipeline].library == "opencv"
    library = f"OpenCV {cv2.__version__}" if opencv else f"Pillow {version('pillow')}"
    return f"{library} on {'packs' if packed else 'frames'}"


def make_sample(
    source: FrameSource, plan: ViewPlan, *, dtype: Dtype = "float32", out: Tensor | None = None
) -> PreparedSample:
    """Return the sample that the view plan makes of a video, bit for bit as the plan's pipeline does.

    float32 is normalised; uint8 holds the pixels before normalisation. Each frame is decoded and resized once and
    written directly to its positions in the tensor, which is `out` if given (C-contiguous, of the plan's
    sample_shape and of `dtype`). Raises BadDataError, naming the source, for a video without frames, frames of
    different sizes or not of the plan's `frame_size`, or frames that are missing, damaged or too large.
    """
    positions = frame_positions(source, plan)
    tensor = _tensor(plan, dtype, out)
    targets = _targets(tensor, plan)
    table = lookup_table(plan, dtype)
    needed = np.unique(positions)
    images = resized_frames(source, needed.tolist(), plan)
    for position, planes in zip(needed, split_planes(images, colour=plan.colour), strict=True):
        slots = np.flatnonzero(positions == position)
        for frames, box in zip(targets, _boxes(planes, plan, name=source.name), strict=True):
            for slot in slots:
                write_crop(planes, box, table, frames[slot])
    return PreparedSample(tensor, tuple((positions + source.first_index).tolist()))


def _tensor(plan: ViewPlan, dtype: Dtype, out: Tensor | None) -> Tensor:
    if out is None:
        return np.empty(plan.sample_shape, dtype)
    if out.shape != plan.sample_shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise ValueError(
            f"out must be C-contiguous {dtype} {plan.sample_shape}, found {out.dtype} {out.shape}"
        )
    return out


def _boxes(planes: Planes, plan: ViewPlan, *, name: str) -> tuple[Box, ...]:
    """Return the plan's crops of a frame, or the full frame, which must then have the plan's frame_size."""
    height, width = planes.shape[1:]
    if plan.frame_size is None:
        return crop_boxes(width, height, plan)
    if plan.frame_size != (width, height):
        required = "x".join(map(str, plan.frame_size))
        raise BadDataError(
            f"The frames of {name} measure {width}x{height} when resized, but the recipe's views.frame_size is "
            f"{required}. Remove this video, put all videos of its size into a separate store (--set views.frame_size="
            f"{width}x{height}), or omit views.frame_size, which stores the crops."
        )
    return (Box(0, 0, width, height),)


def _targets(tensor: Tensor, plan: ViewPlan) -> list[list[Tensor]]:
    """Return the destination of each frame of each crop: [3, size, size] views of the tensor, in the plan's order."""
    if plan.frame_size:
        return [list(tensor)]
    size = tensor.shape[-2:]
    if plan.layout == "NCTHW":
        clips = tensor.reshape(plan.crops, -1, 3, plan.clip_len, *size)
        return [[clip[:, time] for clip in crop for time in range(plan.clip_len)] for crop in clips]
    if plan.layout == "planes":
        return [[tensor[:, frame] for frame in range(plan.frames_per_crop)]]
    return [list(crop) for crop in tensor.reshape(plan.crops, plan.frames_per_crop, 3, *size)]
