"""Training clips: a random clip of a video, cropped and mirrored at random, as the originals' train pipelines make it.

Each decision is taken by the generator that the original uses, in its order: frames, crop, flip. In mmaction2 numpy's
legacy generator samples frames and decides about the flip, and Python's chooses crops; MindSpore's StNet uses Python's
for all. Seeded as the original's, both give the original's clips, bit for bit.
Sources: mmaction/datasets/pipelines/{loading,augmentations}.py of mmaction2 0.24; research/cv/stnet/src/dataset.py of
MindSpore's models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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
from preprocess.tensors.pipelines import PIPELINES, resized_frames
from preprocess.tensors.pixels import crop, mirror, split_planes
from preprocess.tensors.samples import frame_targets
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

__all__ = ["Randomness", "TrainingClip", "make_training_clip"]


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
    """One clip: uint8 pixels of the view plan's sample_shape, and which frames, crop and flip made it.

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
    source: FrameSource, plan: ViewPlan, section: TrainSection, randomness: Randomness
) -> TrainingClip:
    """Return a random clip of the video, sampled and augmented as the section says.

    The plan is that of one view (`TrainSection.views`). Each frame is decoded once, resized to the plan's short side,
    cropped, resized to its crop size and mirrored. Raises BadDataError as `make_sample` does.
    """
    draws = _DRAWS[plan.pipeline]
    positions = _positions(source, plan, section, randomness)
    needed = np.unique(positions)
    images = resized_frames(source, needed.tolist(), plan)
    first = next(images)
    augmentation = section.augmentation
    cuts = _cuts(first.shape[1], first.shape[0], plan, augmentation, randomness)
    mirrored = bool(augmentation.flip) and draws.fraction(randomness) < augmentation.flip
    pixels = np.empty(plan.sample_shape, np.uint8)
    (targets,) = frame_targets(pixels, plan)
    augmented = _augmented(first, images, cuts, plan, mirrored=mirrored)
    for position, planes in zip(needed, split_planes(augmented, colour=plan.colour), strict=True):
        for slot in np.flatnonzero(positions == position):
            np.copyto(targets[slot], planes)
    return TrainingClip(pixels, tuple((positions + source.first_index).tolist()), cuts[0].box, mirrored)


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


def _augmented(
    first: Image, others: Iterator[Image], cuts: tuple[_Cut, ...], plan: ViewPlan, *, mirrored: bool
) -> Iterator[Image]:
    resize = PIPELINES[plan.pipeline].resize
    image: Image | None = first
    while image is not None:
        for box, size in cuts:
            image = resize(crop(image, box), size, size)
        yield mirror(image) if mirrored else image
        image = next(others, None)
