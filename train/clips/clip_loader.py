"""Batches of training clips, decoded by worker processes while the device computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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

__all__ = ["Batch", "Broken", "ClipSource", "LabelledClip", "ListedClips", "ListedVideos", "clip_loader"]


@dataclass(frozen=True, eq=False)
class LabelledClip:
    """One clip: uint8 pixels of the training plan's sample_shape, and its label."""

    pixels: NDArray[np.uint8]
    label: int


@dataclass(frozen=True)
class Broken:
    """A sample that cannot be read, and why."""

    index: int
    reason: str


class ClipSource(Protocol):
    """Clips of training or validation. Which one a key gives depends on the key and the source's own seed only."""

    def __len__(self) -> int:
        """The number of samples."""

    def clip(self, key: ClipKey) -> LabelledClip:
        """Return the clip of this epoch and sample. Raises BadDataError where the sample cannot be read."""


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

    def clip(self, key: ClipKey) -> LabelledClip:
        """Return the clip of this epoch and sample; another epoch gives another one."""
        section, views = self.recipe.training
        annotation = self.annotations[key[1]]
        source = self.source(annotation)
        clip = make_training_clip(source, views, section, Randomness.of(self.seed, *key))
        return LabelledClip(clip.pixels, clip.label(annotation.label, section.augmentation))


@dataclass(frozen=True, eq=False)
class Batch:
    """A device's share of a step: uint8 pixels [n, ...], labels int64 [n], sample indices [n], what was broken.

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
        _Clips(source),
        batch_sampler=_Steps(keys),
        collate_fn=_Collate(shape),
        num_workers=workers,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
        persistent_workers=bool(workers),
        # A fresh interpreter for each worker: forking a process that has used OpenCV's threads can deadlock.
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_start if workers else None,
    )


class _Steps:
    """The keys of each step; a step without keys gets a placeholder, since DataLoader makes no empty batch."""

    def __init__(self, keys: Iterable[list[ClipKey]]) -> None:
        self._keys = keys

    def __iter__(self) -> Iterator[list[ClipKey | None]]:
        for keys in self._keys:
            yield [*keys] or [None]


class _Clips(Dataset[tuple[int, LabelledClip] | Broken | None]):
    """Clips by key; a broken sample is a value, so that it does not end the worker."""

    def __init__(self, source: ClipSource) -> None:
        self._source = source

    def __getitem__(self, key: ClipKey | None) -> tuple[int, LabelledClip] | Broken | None:
        if key is None:
            return None
        try:
            return key[1], self._source.clip(key)
        except BadDataError as error:
            return Broken(key[1], str(error))


@dataclass(frozen=True)
class _Collate:
    """Makes a batch of what the dataset returned for the keys of a step."""

    shape: tuple[int, ...]

    def __call__(self, items: Sequence[tuple[int, LabelledClip] | Broken | None]) -> Batch:
        readable = [item for item in items if isinstance(item, tuple)]
        clips = [clip for _, clip in readable] or [LabelledClip(np.zeros(self.shape, np.uint8), 0)]
        return Batch(
            pixels=torch.from_numpy(np.stack([clip.pixels for clip in clips])),
            labels=torch.tensor([clip.label for clip in clips]),
            indices=tuple(index for index, _ in readable),
            broken=tuple(item for item in items if isinstance(item, Broken)),
        )


def _start(worker: int) -> None:
    start_worker()
