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

import numpy as np
from numpy.typing import NDArray

from preprocess.sources.frames import FrameSource
from preprocess.sources.image_files import Image
from preprocess.tensors.crops import multi_scale_crop, random_crop, random_resized_crop
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
    """

    sample: Callable[[int, ViewPlan, Randomness], NDArray[np.int64]]
    fraction: Callable[[Randomness], float]


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


_MMACTION2 = _Draws(_uniform, lambda randomness: randomness.numpy.rand())
_DRAWS: Mapping[Pipeline, _Draws] = MappingProxyType(
    {
        "mmaction2": _MMACTION2,
        "paddlevideo": _MMACTION2,
        "mindspore": _Draws(_runs, lambda randomness: randomness.python.random()),
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
    box = _box(first.shape[1], first.shape[0], plan, augmentation, randomness)
    mirrored = bool(augmentation.flip) and draws.fraction(randomness) < augmentation.flip
    pixels = np.empty(plan.sample_shape, np.uint8)
    (targets,) = frame_targets(pixels, plan)
    augmented = _augmented(first, images, box, plan, mirrored=mirrored)
    for position, planes in zip(needed, split_planes(augmented, colour=plan.colour), strict=True):
        for slot in np.flatnonzero(positions == position):
            np.copyto(targets[slot], planes)
    return TrainingClip(pixels, tuple((positions + source.first_index).tolist()), box, mirrored)


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
    if isinstance(settings, RandomCrop):
        return random_crop(width, height, randomness.python, size=plan.crop_size)
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
