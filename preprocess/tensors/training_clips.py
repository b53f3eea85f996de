"""Clips of training, cropped and mirrored at random as the originals' train pipelines do, and those of validation.

Each decision is taken by the generator that the original uses, in its order: frames, crop, flip. In mmaction2 numpy's
legacy generator samples frames and decides about the flip, and Python's chooses crops; MindSpore's StNet uses Python's
for all. Seeded as the original's, both give the original's clips, bit for bit. A clip of validation is the centre one.
Sources: mmaction/datasets/pipelines/{loading,augmentations}.py of mmaction2 0.24; research/cv/stnet/src/dataset.py of
MindSpore's models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from random import Random
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from preprocess.sources.frames import FrameSource
from preprocess.sources.image_files import Image
from preprocess.tensors.crops import (
    multi_scale_crop,
    random_crop,
    random_resized_crop,
    rounded_multi_scale_crop,
)
from preprocess.tensors.pipelines import PIPELINES, frame_positions, resized_frames
from preprocess.tensors.pixels import crop, mirror
from preprocess.tensors.sampling import dense_train, segment_runs_train, uniform_train
from vidom.errors import BadDataError
from vidom.formats.crop_boxes import Box, crop_boxes
from vidom.formats.recipe_parts.train_section import (
    Augmentation,
    MultiScaleCrop,
    RandomCrop,
    RandomResizedCrop,
    TrainSection,
)
from vidom.formats.views import Pipeline, ViewPlan

__all__ = ["Randomness", "TrainingClip", "make_centre_clip", "make_training_clip"]


@dataclass(frozen=True, eq=False)
class Randomness:
    """The two generators that the originals' pipelines draw from."""

    numpy: np.random.RandomState
    python: Random

    @classmethod
    def of(cls, *numbers: int) -> Randomness:
        """Return generators whose state depends on the numbers only, such as seed, epoch and sample."""
        first, *state = np.random.SeedSequence(numbers).generate_state(9)
        return cls(np.random.RandomState(state), Random(int(first)))


@dataclass(frozen=True, eq=False)
class TrainingClip:
    """One clip: uint8 pixels of the view plan's images_shape, RGB, and which frames, crop and flip made it.

    `frames` are numbered as in their source; `box` is in pixels of the frame resized to the plan's short side.
    """

    pixels: NDArray[np.uint8]
    frames: tuple[int, ...]
    box: Box
    mirrored: bool

    def label(self, label: int, augmentation: Augmentation) -> int:
        """Return what `label` has become."""
        return augmentation.flip_labels.get(label, label) if self.mirrored else label


@dataclass(frozen=True)
class _Draws:
    """How a framework's train pipeline takes its decisions.

    `sample(total_frames, plan, randomness)` returns the positions of uniform sampling; dense sampling is the same in
    all. A clip is mirrored where `fraction(randomness)`, from 0 to 1, is less than the probability of it.
    `multi_scale` returns a multi-scale crop.
    """

    sample: Callable[[int, ViewPlan, Randomness], NDArray[np.int64]]
    fraction: Callable[[Randomness], float]
    multi_scale: Callable[..., Box]


def _uniform(total_frames: int, plan: ViewPlan, randomness: Randomness) -> NDArray[np.int64]:
    return uniform_train(
        total_frames,
        randomness.numpy,
        num_clips=plan.num_segments,
        clip_len=plan.clip_len,
        frame_interval=plan.frame_interval,
    )


def _runs(total_frames: int, plan: ViewPlan, randomness: Randomness) -> NDArray[np.int64]:
    return segment_runs_train(
        total_frames, randomness.python, num_segments=plan.num_segments, run_length=plan.clip_len
    )


_WITH_PILLOW = _Draws(_runs, lambda randomness: randomness.python.random(), rounded_multi_scale_crop)
_DRAWS: Mapping[Pipeline, _Draws] = MappingProxyType(
    {
        "mmaction2": _Draws(_uniform, lambda randomness: randomness.numpy.rand(), multi_scale_crop),
        "paddlevideo": _WITH_PILLOW,
        "mindspore": _WITH_PILLOW,
    }
)


def make_training_clip(
    source: FrameSource,
    plan: ViewPlan,
    section: TrainSection,
    randomness: Randomness,
    *,
    out: NDArray[np.uint8] | None = None,
) -> TrainingClip:
    """Return a random clip of the video, sampled and augmented as the section says.

    The plan is that of one view (`TrainSection.views`). Each frame is decoded once, resized to the plan's short side,
    cropped, resized to its crop size and mirrored, and written to `out` if given (C-contiguous, of the plan's
    images_shape). Raises BadDataError as `make_sample` does.
    """
    augmentation = section.augmentation

    def decide(width: int, height: int) -> _Decision:
        cuts = _cuts(width, height, plan, augmentation, randomness)
        fraction = _DRAWS[plan.pipeline].fraction
        return _Decision(cuts, bool(augmentation.flip) and fraction(randomness) < augmentation.flip)

    return _clip(source, plan, _positions(source, plan, section, randomness), decide, out)


def make_centre_clip(
    source: FrameSource, plan: ViewPlan, *, out: NDArray[np.uint8] | None = None
) -> TrainingClip:
    """Return the clip with the pixels of `make_sample` for a plan of one view; raises BadDataError as that does."""

    def decide(width: int, height: int) -> _Decision:
        (box,) = crop_boxes(width, height, plan)
        return _Decision((_Cut(box, plan.crop_size),), mirrored=False)

    return _clip(source, plan, frame_positions(source, plan), decide, out)


def _positions(
    source: FrameSource, plan: ViewPlan, section: TrainSection, randomness: Randomness
) -> NDArray[np.int64]:
    if source.total_frames < 1:
        raise BadDataError(f"{source.name} has no frames. Remove it from the list.")
    if section.sampling == "uniform":
        return _DRAWS[plan.pipeline].sample(source.total_frames, plan, randomness)
    return dense_train(
        source.total_frames,
        randomness.numpy,
        num_clips=plan.num_segments,
        clip_len=plan.clip_len,
        frame_interval=plan.frame_interval,
    )


class _Cut(NamedTuple):
    """A part of an image, and the size that it is resized to."""

    box: Box
    size: int


def _cuts(
    width: int, height: int, plan: ViewPlan, augmentation: Augmentation, randomness: Randomness
) -> tuple[_Cut, ...]:
    """Return the parts that are cut out of a frame, one of another."""
    settings, size = augmentation.crop, plan.crop_size
    if not isinstance(settings, MultiScaleCrop):
        return (_Cut(_box(width, height, plan, augmentation, randomness), size),)
    between = settings.resize_to or size
    box = _DRAWS[plan.pipeline].multi_scale(
        width,
        height,
        randomness.python,
        size=between,
        scales=settings.scales,
        max_scale_gap=settings.max_scale_gap,
        num_fixed_crops=settings.positions,
    )
    if settings.resize_to is None:
        return (_Cut(box, size),)
    return _Cut(box, between), _Cut(random_crop(between, between, randomness.python, size=size), size)


def _box(width: int, height: int, plan: ViewPlan, augmentation: Augmentation, randomness: Randomness) -> Box:
    settings = augmentation.crop
    if isinstance(settings, RandomResizedCrop):
        return random_resized_crop(
            width, height, randomness.numpy, randomness.python, area=settings.area, aspect=settings.aspect
        )
    if isinstance(settings, RandomCrop):
        return random_crop(width, height, randomness.python, size=plan.crop_size)
    return crop_boxes(width, height, plan)[0]


class _Decision(NamedTuple):
    """What is done to each frame of a clip."""

    cuts: tuple[_Cut, ...]
    mirrored: bool


def _clip(
    source: FrameSource,
    plan: ViewPlan,
    positions: NDArray[np.int64],
    decide: Callable[[int, int], _Decision],
    out: NDArray[np.uint8] | None,
) -> TrainingClip:
    """Return the clip of these positions; `decide(width, height)` is called with the size of the resized frames."""
    needed = np.unique(positions)
    images = resized_frames(source, needed.tolist(), plan)
    first = next(images)
    cuts, mirrored = decide(first.shape[1], first.shape[0])
    pixels = np.empty(plan.images_shape, np.uint8) if out is None else out
    for position, image in zip(needed, chain((first,), images), strict=True):
        slot, *others = np.flatnonzero(positions == position)
        _write(image, cuts, plan, mirrored=mirrored, out=pixels[slot])
        for other in others:
            pixels[other] = pixels[slot]
    return TrainingClip(pixels, tuple((positions + source.first_index).tolist()), cuts[0].box, mirrored)


def _write(image: Image, cuts: tuple[_Cut, ...], plan: ViewPlan, *, mirrored: bool, out: Image) -> None:
    resize = PIPELINES[plan.pipeline].resize
    *others, last = cuts
    for box, size in others:
        image = resize(crop(image, box), size, size)
    resize(crop(image, last.box), last.size, last.size, out)
    if mirrored:
        mirror(out, out)
