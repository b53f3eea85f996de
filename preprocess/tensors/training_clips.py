"""Training clips: a random clip of a video, cropped and mirrored at random, as mmaction2's train pipelines make it.

Each decision is taken by the generator that the original uses, in its order: numpy's legacy one samples frames and
decides about the flip, Python's chooses crops. Seeded as the original's, both give the original's clips, bit for bit.
Source: mmaction/datasets/pipelines/{loading,augmentations}.py of mmaction2 0.24.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from preprocess.sources.frames import FrameSource
from preprocess.sources.image_files import Image
from preprocess.tensors.crops import multi_scale_crop, random_resized_crop
from preprocess.tensors.pipelines import PIPELINES, resized_frames
from preprocess.tensors.pixels import crop, mirror, split_planes
from preprocess.tensors.samples import frame_targets
from preprocess.tensors.sampling import dense_train, uniform_train
from vidom.errors import BadDataError
from vidom.formats.crop_boxes import Box, crop_boxes
from vidom.formats.recipe_parts.train_section import (
    Augmentation,
    MultiScaleCrop,
    RandomResizedCrop,
    TrainSection,
)
from vidom.formats.views import ViewPlan

__all__ = ["Randomness", "TrainingClip", "make_training_clip"]


@dataclass(frozen=True, eq=False)
class Randomness:
    """The two generators that the original's pipelines draw from."""

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


def make_training_clip(
    source: FrameSource, plan: ViewPlan, section: TrainSection, randomness: Randomness
) -> TrainingClip:
    """Return a random clip of the video, sampled and augmented as the section says.

    The plan is that of one view (`TrainSection.views`). Each frame is decoded once, resized to the plan's short side,
    cropped, resized to its crop size and mirrored. Raises BadDataError as `make_sample` does.
    """
    positions = _positions(source, plan, section.sampling, randomness)
    needed = np.unique(positions)
    images = resized_frames(source, needed.tolist(), plan)
    first = next(images)
    augmentation = section.augmentation
    box = _box(first.shape[1], first.shape[0], plan, augmentation, randomness)
    mirrored = bool(augmentation.flip) and randomness.numpy.rand() < augmentation.flip
    pixels = np.empty(plan.sample_shape, np.uint8)
    (targets,) = frame_targets(pixels, plan)
    augmented = _augmented(first, images, box, plan, mirrored=mirrored)
    for position, planes in zip(needed, split_planes(augmented, colour=plan.colour), strict=True):
        for slot in np.flatnonzero(positions == position):
            np.copyto(targets[slot], planes)
    return TrainingClip(pixels, tuple((positions + source.first_index).tolist()), box, mirrored)


def _positions(
    source: FrameSource, plan: ViewPlan, sampling: Literal["uniform", "dense"], randomness: Randomness
) -> NDArray[np.int64]:
    if source.total_frames < 1:
        raise BadDataError(f"{source.name} has no frames. Remove it from the list.")
    sample = dense_train if sampling == "dense" else uniform_train
    return sample(
        source.total_frames,
        randomness.numpy,
        num_clips=plan.num_segments,
        clip_len=plan.clip_len,
        frame_interval=plan.frame_interval,
    )


def _box(width: int, height: int, plan: ViewPlan, augmentation: Augmentation, randomness: Randomness) -> Box:
    settings = augmentation.crop
    if isinstance(settings, MultiScaleCrop):
        return multi_scale_crop(
            width,
            height,
            randomness.python,
            size=plan.crop_size,
            scales=settings.scales,
            max_scale_gap=settings.max_scale_gap,
            num_fixed_crops=settings.positions,
        )
    if isinstance(settings, RandomResizedCrop):
        return random_resized_crop(
            width, height, randomness.numpy, randomness.python, area=settings.area, aspect=settings.aspect
        )
    return crop_boxes(width, height, plan)[0]


def _augmented(
    first: Image, others: Iterator[Image], box: Box, plan: ViewPlan, *, mirrored: bool
) -> Iterator[Image]:
    resize = PIPELINES[plan.pipeline].resize
    image: Image | None = first
    while image is not None:
        scaled = resize(crop(image, box), plan.crop_size, plan.crop_size)
        yield mirror(scaled) if mirrored else scaled
        image = next(others, None)
