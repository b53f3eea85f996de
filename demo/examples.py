"""Synthetic clips for training and checks, generated in memory and processed as in training and validation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.generate import scene_of
from demo.motion import Scene
from demo.motion_sets import MOTION_SETS, MotionSet
from demo.rendering import render_frames
from demo.sthv2_folder import SPLITS, Split
from demo.symmetries import scatter
from preprocess.sources.image_files import Image, decode_with_opencv
from preprocess.tensors.training_clips import Randomness, make_centre_clip, make_training_clip
from train.clips.epochs import ClipKey
from vidom.errors import UsageError
from vidom.formats.recipe import Recipe
from vidom.parallel.workers import each_finished
from vidom.progress import progress
from vidom.system.machine import usable_cores

__all__ = ["Examples", "GeneratedClips", "SyntheticClip", "generate_examples"]


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled clips of a set of motions: uint8 pixels [n, *images_shape], RGB, labels int64 [n]."""

    clips: NDArray[np.uint8]
    labels: NDArray[np.int64]
    motions: MotionSet

    @property
    def sha256(self) -> str:
        """A digest of the pixels and labels."""
        digest = hashlib.sha256(self.clips.data)
        digest.update(self.labels.data)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class GeneratedClips:
    """Examples as a source of `train`, with random symmetries if `scattered`, in random order of frames if `shuffled`.

    A clip depends on the seed, the epoch and the sample only.
    """

    examples: Examples
    seed: int
    scattered: bool
    shuffled: bool

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.examples.labels)

    def write(self, key: ClipKey, out: NDArray[np.uint8]) -> int:
        """Write the clip of this epoch and sample, and return its label."""
        random = np.random.default_rng((self.seed, *key))
        pixels, label = self.examples.clips[key[1]], int(self.examples.labels[key[1]])
        if self.scattered:
            pixels, label = scatter(pixels, label, random, motions=self.examples.motions)
        np.copyto(out, random.permutation(pixels) if self.shuffled else pixels)
        return label


@dataclass(frozen=True, eq=False)
class SyntheticClip:
    """A scene as a source of JPEG-compressed frames."""

    scene: Scene
    name: str = "a synthetic clip"
    first_index: int = 0

    @property
    def total_frames(self) -> int:
        """The number of frames."""
        return self.scene.length

    def read(self, positions: Iterable[int]) -> Iterator[Image]:
        """Yield the frames at these positions."""
        for frame in render_frames(self.scene, list(positions)):
            _, content = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            yield decode_with_opencv(content.tobytes(), name=self.name)


@dataclass(frozen=True)
class _Job:
    split: Split
    index: int
    seed: int
    recipe: Recipe
    motions: MotionSet


def generate_examples(
    recipe: Recipe, split: Split, *, clips_per_class: int, seed: int, workers: int | None = None
) -> Examples:
    """Return `clips_per_class` clips of each class, clip i of class i modulo 12: those of `generate` for this seed.

    Training clips are sampled as the recipe's train section says, validation clips as in its validation. Raises
    UsageError for a recipe whose data set is not generated.
    """
    if recipe.dataset.name not in MOTION_SETS:
        raise UsageError(
            f"The clips of {recipe.dataset.name} cannot be generated. Choose a recipe whose dataset.name is "
            f"{' or '.join(MOTION_SETS)}."
        )
    motions = MOTION_SETS[recipe.dataset.name]
    classes = len(motions.motions)
    jobs = [_Job(split, index, seed, recipe, motions) for index in range(clips_per_class * classes)]
    clips = np.empty((len(jobs), *recipe.training[1].images_shape), np.uint8)
    workers = workers or usable_cores()
    # Starting processes for a few clips takes longer than generating them.
    workers = 1 if len(jobs) < 2 * workers else workers
    with progress(total=len(jobs), unit="clip", label=f"generate {split}") as bar:
        for index, clip in each_finished(_generate, jobs, workers=workers):
            clips[index] = clip
            bar.update()
    return Examples(clips, np.arange(len(jobs)) % classes, motions)


def _generate(job: _Job) -> tuple[int, NDArray[np.uint8]]:
    section, views = job.recipe.training
    source = SyntheticClip(scene_of(job.split, job.index, seed=job.seed, motions=job.motions))
    if job.split == "train":
        random = Randomness.of(job.seed, SPLITS.index(job.split), job.index)
        return job.index, make_training_clip(source, views, section, random).pixels
    return job.index, make_centre_clip(source, views).pixels
