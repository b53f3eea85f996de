"""Variants of making the tensor of one sample: vidom's, its stages, and plain ones with OpenCV and numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocess.sources.frame_folders import frame_numbers
from preprocess.sources.frames import RawFrames
from preprocess.tensors.crops import short_side_size
from preprocess.tensors.pipelines import frame_positions, resized_frames
from preprocess.tensors.pixels import split_planes
from preprocess.tensors.samples import make_sample
from vidom.errors import UsageError
from vidom.formats.crop_boxes import Box, crop_boxes
from vidom.formats.frame_naming import FrameNaming
from vidom.formats.views import ViewPlan

__all__ = [
    "PLAIN",
    "PLAIN_BY_CROP",
    "STAGES",
    "all_variants",
    "frame_folders",
    "plain_by_crop",
    "plain_sample",
]

Float = NDArray[np.float32]
PLAIN = "plain: stacked, normalised, transposed"
PLAIN_BY_CROP = "plain, crop by crop"
STAGES = ("files read", "decoded", "resized", "split into planes")


def frame_folders(folders: Sequence[Path], naming: FrameNaming) -> tuple[RawFrames, ...]:
    """Return all frames of each folder. Raises UsageError for a folder without any."""
    sources = []
    for folder in folders:
        count = frame_numbers(folder, template=naming.template).frames if folder.is_dir() else 0
        if not count:
            raise UsageError(
                f"There is no frame such as {naming.template.format(1)} in {folder}. Give folders of extracted frames."
            )
        sources.append(RawFrames(folder, count, naming))
    return tuple(sources)


def all_variants(
    sources: Sequence[RawFrames], plan: ViewPlan, whole: Sequence[ViewPlan]
) -> dict[str, Callable[[], object]]:
    """Return the timed functions by name, each for all sources once; `whole` are the plans of uncropped frames."""

    def each(function: Callable[[RawFrames, ViewPlan], object]) -> Callable[[], object]:
        return lambda: _exhaust(function(source, plan) for source in sources)

    stages: tuple[Callable[[RawFrames, ViewPlan], object], ...] = (_read, _decoded, _resized, _planes)
    return {
        PLAIN: each(plain_sample),
        PLAIN_BY_CROP: each(plain_by_crop),
        "vidom, float32": each(make_sample),
        "vidom, uint8": each(partial(make_sample, dtype="uint8")),
        "vidom, uint8, uncropped frames": lambda: _exhaust(
            make_sample(source, own, dtype="uint8") for source, own in zip(sources, whole, strict=True)
        ),
        **{name: each(stage) for name, stage in zip(STAGES, stages, strict=True)},
    }


def plain_sample(source: RawFrames, plan: ViewPlan) -> Float:
    """Return the sample, [frames, 3, size, size], by a direct implementation.

    Crops are stacked as float32, each is normalised in place as mmcv `imnormalize_` does (BGR to RGB, mean subtracted,
    divided by std, because multiplying by 1/std gives different last bits with this OpenCV), and the stack is
    transposed at the end.
    """
    crops = _crops(source, plan)
    stack = np.empty((len(crops), plan.crop_size, plan.crop_size, 3), np.float32)
    for place, image in zip(stack, crops, strict=True):
        place[...] = image
    for place in stack:
        cv2.cvtColor(place, cv2.COLOR_BGR2RGB, dst=place)
        _normalise(place, plan)
    return np.ascontiguousarray(stack.transpose(0, 3, 1, 2))


def plain_by_crop(source: RawFrames, plan: ViewPlan) -> Float:
    """Return the same sample, rearranged for speed.

    The colour order is swapped in the decoded frames, and each crop is normalised and transposed into its place
    before the next one.
    """
    crops = _crops(source, plan, rgb=True)
    out = np.empty((len(crops), 3, plan.crop_size, plan.crop_size), np.float32)
    for place, image in zip(out, crops, strict=True):
        numbers = image.astype(np.float32)
        _normalise(numbers, plan)
        place[...] = numbers.transpose(2, 0, 1)
    return out


def _crops(source: RawFrames, plan: ViewPlan, *, rgb: bool = False) -> list[NDArray[np.uint8]]:
    images = []
    for position in frame_positions(source, plan).tolist():
        image = cv2.imread(str(source.naming.path(source.folder, source.first_index + position)))
        if image is None:
            raise UsageError(f"OpenCV cannot read frame {source.first_index + position} of {source.name}.")
        if rgb:
            cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
        size = short_side_size(image.shape[1], image.shape[0], short_side=plan.short_side)
        images.append(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR))
    boxes: tuple[Box, ...] = crop_boxes(images[0].shape[1], images[0].shape[0], plan)
    return [
        np.asarray(image[box.top : box.bottom, box.left : box.right], np.uint8)
        for box in boxes
        for image in images
    ]


def _normalise(image: Float, plan: ViewPlan) -> None:
    # OpenCV takes rows of float64; their values are rounded to float32 as in the original.
    mean, std = (np.array(numbers, np.float32)[None].astype(np.float64) for numbers in (plan.mean, plan.std))
    cv2.subtract(image, mean, dst=image)
    cv2.divide(image, std, dst=image)


def _needed(source: RawFrames, plan: ViewPlan) -> list[int]:
    return list(np.unique(frame_positions(source, plan)).tolist())


def _read(source: RawFrames, plan: ViewPlan) -> None:
    for position in _needed(source, plan):
        (source.naming.path(source.folder, source.first_index + position)).read_bytes()


def _decoded(source: RawFrames, plan: ViewPlan) -> None:
    _exhaust(source.read(_needed(source, plan)))


def _resized(source: RawFrames, plan: ViewPlan) -> None:
    _exhaust(resized_frames(source, _needed(source, plan), plan))


def _planes(source: RawFrames, plan: ViewPlan) -> None:
    _exhaust(split_planes(resized_frames(source, _needed(source, plan), plan), colour=plan.colour))


def _exhaust(things: Iterable[object]) -> None:
    for _ in things:
        pass
