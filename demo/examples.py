"""Synthetic clips for training and checks, generated in memory and processed as in inference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.generate import scene_of
from demo.motion import MOTIONS, Scene
from demo.rendering import render_frames
from demo.sthv2_folder import SPLITS, Split
from preprocess.sources.image_files import Image, decode_with_opencv
from preprocess.tensors.samples import make_sample
from preprocess.tensors.sampling import uniform_train
from vidom.formats.views import ViewPlan
from vidom.parallel.workers import each_finished
from vidom.progress import progress
from vidom.system.machine import usable_cores

__all__ = ["Examples", "SyntheticClip", "generate_examples"]


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled clips: uint8 pixels [n, segments, 3, side, side] before normalisation, labels int64 [n]."""

    clips: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SyntheticClip:
    """The frames `numbers` of a scene as a source of JPEG-compressed frames."""

    scene: Scene
    numbers: NDArray[np.int64]
    name: str = "a synthetic clip"
    first_index: int = 0

    @property
    def total_frames(self) -> int:
        """The number of frames."""
        return len(self.numbers)

    def read(self, positions: Iterable[int]) -> Iterator[Image]:
        """Yield the frames at these positions."""
        for frame in render_frames(self.scene, self.numbers[list(positions)].tolist()):
            _, content = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            yield decode_with_opencv(content.tobytes(), name=self.name)


@dataclass(frozen=True)
class _Job:
    split: Split
    index: int
    seed: int
    plan: ViewPlan


def generate_examples(
    split: Split, *, clips_per_class: int, plan: ViewPlan, seed: int, workers: int | None = None
) -> Examples:
    """Return `clips_per_class` clips of each class, clip i of class i modulo 12: those of `generate` for this seed.

    Validation clips are sampled as in testing; in training clips each segment is a random frame of its stretch
    (SampleFrames in train mode). Everything else is the plan's test pipeline.
    """
    jobs = [_Job(split, index, seed, plan) for index in range(clips_per_class * len(MOTIONS))]
    clips = np.empty((len(jobs), *plan.sample_shape), np.uint8)
    workers = workers or usable_cores()
    # Starting processes for a few clips takes longer than generating them.
    workers = 1 if len(jobs) < 2 * workers else workers
    with progress(total=len(jobs), unit="clip", label=f"generate {split}") as bar:
        for index, clip in each_finished(_generate, jobs, workers=workers):
            clips[index] = clip
            bar.update()
    return Examples(clips, np.arange(len(jobs)) % len(MOTIONS))


def _generate(job: _Job) -> tuple[int, NDArray[np.uint8]]:
    scene = scene_of(job.split, job.index, seed=job.seed)
    numbers = np.arange(scene.length)
    if job.split == "train":
        random = np.random.RandomState((job.seed, SPLITS.index(job.split), job.index))
        # The test pipeline takes every frame if there are as many frames as segments.
        numbers = uniform_train(scene.length, random, num_clips=job.plan.num_segments)
    sample = make_sample(SyntheticClip(scene, numbers), job.plan, dtype="uint8")
    return job.index, np.asarray(sample.tensor, np.uint8)
