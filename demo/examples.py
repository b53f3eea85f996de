"""Clips for training and for quick checks, drawn in memory and put through the pixel path of inference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.drawing import draw_frames
from demo.generate import scene_of
from demo.motion import MOTIONS, Scene
from demo.ordered_map import each
from demo.sthv2_folder import SPLITS, Split
from preprocess.sources.jpeg import Image, decode_jpeg
from preprocess.tensors.samples import make_sample
from preprocess.tensors.sampling import uniform_train
from vidom.formats.views import ViewPlan
from vidom.system.machine import usable_cores

__all__ = ["DrawnClip", "Examples", "draw_examples"]


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled clips: uint8 pixels [n, segments, 3, side, side] before normalisation, labels int64 [n]."""

    clips: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DrawnClip:
    """The frames numbered `numbers` of a scene, as a source of frames that went through JPEG."""

    scene: Scene
    numbers: NDArray[np.int64]
    name: str = "a drawn clip"
    first_index: int = 0

    @property
    def total_frames(self) -> int:
        """How many frames the clip offers."""
        return len(self.numbers)

    def read(self, positions: Iterable[int]) -> Iterator[Image]:
        """Yield the frames at these positions."""
        for frame in draw_frames(self.scene, self.numbers[list(positions)].tolist()):
            _, content = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            yield decode_jpeg(content.tobytes(), name=self.name)


@dataclass(frozen=True)
class _Job:
    split: Split
    index: int
    seed: int
    plan: ViewPlan


def draw_examples(
    split: Split, *, clips_per_class: int, plan: ViewPlan, seed: int, workers: int | None = None
) -> Examples:
    """Return so many clips of each class, in turn: the ones that `generate` would write for the same seed.

    Validation clips are sampled as in testing; of training clips each segment gives a random frame of its
    stretch (SampleFrames in train mode). Everything else is the plan's test pipeline.
    """
    jobs = [_Job(split, index, seed, plan) for index in range(clips_per_class * len(MOTIONS))]
    clips = np.empty((len(jobs), *plan.sample_shape), np.uint8)
    drawn = each(_draw, jobs, workers=workers or usable_cores(), label=f"draw {split}")
    for place, clip in zip(clips, drawn, strict=True):
        place[:] = clip
    return Examples(clips, np.arange(len(jobs)) % len(MOTIONS))


def _draw(job: _Job) -> NDArray[np.uint8]:
    scene = scene_of(job.split, job.index, seed=job.seed)
    numbers = np.arange(scene.length)
    if job.split == "train":
        random = np.random.RandomState((job.seed, SPLITS.index(job.split), job.index))
        # Of as many frames as there are segments the test pipeline takes each one.
        numbers = uniform_train(scene.length, random, num_clips=job.plan.num_segments)
    return np.asarray(make_sample(DrawnClip(scene, numbers), job.plan, dtype="uint8").tensor, np.uint8)
