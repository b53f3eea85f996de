"""Batches of training clips, decoded by worker processes while the device computes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from preprocess.datasets.annotations import Annotation
from preprocess.sources.frames import FrameSource
from preprocess.tensors.samples import open_source
from preprocess.tensors.training_clips import Randomness, make_training_clip
from train.clips.epochs import ClipKey
from vidom.errors import BadDataError
from vidom.formats.recipe import Recipe
from vidom.parallel.workers import start_worker

__all__ = ["Batch", "Broken", "ClipSource", "ListedClips", "ListedVideos", "clip_loader"]


@dataclass(frozen=True)
class Broken:
    """A sample that cannot be read, and why."""

    index: int
    reason: str


class ClipSource(Protocol):
    """Clips of training or validation. Which one a key gives depends on the key and the source's own seed only."""

    def __len__(self) -> int:
        """The number of samples."""

    def write(self, key: ClipKey, out: NDArray[np.uint8]) -> int:
        """Write the clip of this epoch and sample to `out`, and return its label.

        `out` is C-contiguous, of the training plan's images_shape, [frames, height, width, 3]: RGB, the frames in the
        order of the network's input. Colours stay interleaved as decoders give them, and writing to the batch needs no
        copy: both save the cores' time, of which decoding leaves little. `Normalisation` arranges what the network
        takes on the device. Raises BadDataError where the sample cannot be read; `out` holds anything then.
        """


@dataclass(frozen=True)
class ListedVideos:
    """The videos of a list below `data_root`, decoded and named as the recipe says."""

    recipe: Recipe
    annotations: Sequence[Annotation]
    data_root: Path

    def __len__(self) -> int:
        """The number of videos."""
        return len(self.annotations)

    def source(self, annotation: Annotation) -> FrameSource:
        """Return the frames of one of the videos, without reading them."""
        return open_source(
            annotation,
            data_root=self.data_root,
            pipeline=self.recipe.views.pipeline,
            naming=self.recipe.dataset.frame_naming,
        )


@dataclass(frozen=True)
class ListedClips(ListedVideos):
    """Random clips of the videos, sampled and augmented as the recipe's train section says."""

    seed: int

    def write(self, key: ClipKey, out: NDArray[np.uint8]) -> int:
        """Write the clip of this epoch and sample, and return its label; another epoch gives another clip."""
        section, views = self.recipe.training
        annotation = self.annotations[key[1]]
        source = self.source(annotation)
        clip = make_training_clip(source, views, section, Randomness.of(self.seed, *key), out=out)
        return clip.label(annotation.label, section.augmentation)


@dataclass(frozen=True, eq=False)
class Batch:
    """A device's share of a step: uint8 pixels [n, *images_shape], int64 labels, sample indices, what was broken.

    A device without readable samples in a step gets one black clip, so that it can take part; `indices` is empty then.
    """

    pixels: Tensor
    labels: Tensor
    indices: tuple[int, ...]
    broken: tuple[Broken, ...]

    def pin_memory(self) -> Batch:
        """Return the batch in memory that is copied to a GPU while it computes; DataLoader calls this by its name."""
        return replace(self, pixels=self.pixels.pin_memory(), labels=self.labels.pin_memory())


def clip_loader(
    source: ClipSource,
    keys: Iterable[list[ClipKey]],
    *,
    shape: tuple[int, ...],
    workers: int,
    pin_memory: bool = False,
) -> Iterable[Batch]:
    """Return what yields the batch of each list of keys, in order, every time it is iterated over.

    `workers` processes decode ahead, and stay for the next iteration; with 0 clips are decoded in this process. They
    end with this process. `shape` is that of one clip.
    """
    return DataLoader(
        _Batches(source, shape),
        # Without automatic batching an index is all keys of a step.
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
        persistent_workers=bool(workers),
        # A fresh interpreter for each worker: forking a process that has used OpenCV's threads can deadlock.
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_start if workers else None,
    )


class _Batches(Dataset[Batch]):
    """The batch of the keys of a step."""

    def __init__(self, source: ClipSource, shape: tuple[int, ...]) -> None:
        self._source = source
        self._shape = shape

    def __getitem__(self, keys: list[ClipKey]) -> Batch:
        pixels = torch.empty((max(1, len(keys)), *self._shape), dtype=torch.uint8)
        indices: list[int] = []
        labels: list[int] = []
        broken: list[Broken] = []
        for key in keys:
            try:
                labels.append(self._source.write(key, pixels[len(labels)].numpy()))
                indices.append(key[1])
            except BadDataError as error:
                broken.append(Broken(key[1], str(error)))
        if not labels:
            pixels[0] = 0
        return Batch(
            pixels=pixels[: max(1, len(labels))],
            labels=torch.tensor(labels or [0]),
            indices=tuple(indices),
            broken=tuple(broken),
        )


def _start(worker: int) -> None:
    start_worker()
