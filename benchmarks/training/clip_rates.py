"""Clips a second that one core makes: vidom's training clips, and mmaction2's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import cv2
import torch

from benchmarks.measuring.report import Table, Target
from benchmarks.training.made_videos import write_frames, write_videos
from benchmarks.training.original_clips import (
    Images,
    decoded_files,
    decoded_video,
    original_batch,
    original_clip,
)
from preprocess.datasets.annotations import Annotation
from preprocess.datasets.sample_list import list_samples
from preprocess.tensors.training_clips import Randomness, TrainingClip, make_training_clip
from train.clips.clip_loader import Batch, ListedClips, clip_loader
from train.clips.epochs import ClipKey
from vidom.formats.recipe import load_recipe

__all__ = ["FRAMES", "clip_rates"]

FRAMES = "JPEG files"
_BATCH, _BATCHES, _LENGTH = 12, 3, 48


@dataclass(frozen=True, eq=False)
class _Both:
    """The clips of one list, made by vidom and as by mmaction2, with the same decisions."""

    clips: ListedClips

    def ours(self, keys: list[ClipKey], count: int) -> Iterator[Batch]:
        """Yield the same batch so many times, made as training does, in this process."""
        plan = self.clips.recipe.training[1]
        return iter(clip_loader(self.clips, [keys] * count, shape=plan.images_shape, workers=0))

    def original(self, decided: Sequence[tuple[Annotation, TrainingClip]]) -> None:
        """Make the batch as mmaction2 does."""
        plan = self.clips.recipe.training[1]
        original_batch([original_clip(images, plan, clip) for images, clip in self.decoded(decided)])

    def decode(self, decided: Sequence[tuple[Annotation, TrainingClip]]) -> None:
        """Decode the images of the batch as mmaction2 does, and no more."""
        for _ in self.decoded(decided):
            pass

    def decoded(
        self, decided: Sequence[tuple[Annotation, TrainingClip]]
    ) -> Iterator[tuple[Images, TrainingClip]]:
        """Yield the images of each clip as mmaction2 decodes them."""
        for annotation, clip in decided:
            path = self.clips.data_root / annotation.path
            if path.is_dir():
                yield decoded_files([path / f"img_{frame:05}.jpg" for frame in clip.frames]), clip
            else:
                yield decoded_video(path, clip.frames), clip

    def decided(self, keys: list[ClipKey]) -> list[tuple[Annotation, TrainingClip]]:
        """Return what vidom decides for these keys."""
        section, plan = self.clips.recipe.training
        made = []
        for key in keys:
            annotation = self.clips.annotations[key[1]]
            random = Randomness.of(self.clips.seed, *key)
            made.append(
                (annotation, make_training_clip(self.clips.source(annotation), plan, section, random))
            )
        return made


def clip_rates(folder: Path, *, rounds: int) -> tuple[dict[str, float], Table, list[Target]]:
    """Return vidom's clips a second by kind of source, the table, and the targets. Videos are made in `folder`."""
    recipe = load_recipe("tsm_ucf101")
    count = _BATCH * _BATCHES
    lists = {FRAMES: write_frames(folder / "frames", count=count, frames=_LENGTH)}
    if find_spec("av"):
        lists["H.264 videos"] = write_videos(folder / "videos", count=count, frames=_LENGTH)
    rates: dict[str, float] = {}
    rows = []
    for kind, path in lists.items():
        annotations = list_samples(path, data_root=path.parent, recipe=recipe)
        ours, original, decoding = _rates(_Both(ListedClips(recipe, annotations, path.parent, 0)), rounds)
        rates[kind] = ours
        rows.append((kind, ours, original, ours / original, decoding / original))
    table = Table(
        f"Clips of 8 frames of 340x256, {_LENGTH} in a video, to 224x224",
        ["source", "vidom, clips/s", "mmaction2's steps, clips/s", "ratio", "decoding only, ratio"],
        rows,
        f"CPU time of one core, the shortest of {rounds} interleaved rounds of each batch of {_BATCH}, each after "
        "a batch that is not timed. mmaction2's "
        "steps: SampleFrames, decoding with OpenCV or PyAV, Resize, MultiScaleCrop, Resize, Flip, Normalize, "
        "FormatShape, collation. The last column is the ratio of a path that takes as long as mmaction2's decoding.",
    )
    return rates, table, [Target(f"{FRAMES}, speedup over mmaction2's steps", rows[0][3], 2.0)]


def _rates(both: _Both, rounds: int) -> tuple[float, ...]:
    """Return the clips a second of CPU time of vidom, of mmaction2's steps, and of its decoding only."""
    batches = [[(0, at + place) for place in range(_BATCH)] for at in range(0, _BATCH * _BATCHES, _BATCH)]
    work = [_variants(both, keys, 2 * rounds) for keys in batches]
    seconds = [[math.inf] * len(variants) for variants in work]
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    try:
        for _ in range(rounds):
            for shortest, variants in zip(seconds, work, strict=True):
                for number, variant in enumerate(variants):
                    # Other variants leave the allocator in a state that this one never has when it runs by itself.
                    variant()
                    began = time.process_time()
                    variant()
                    shortest[number] = min(shortest[number], time.process_time() - began)
    finally:
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])
    return tuple(_BATCH * _BATCHES / sum(column) for column in zip(*seconds, strict=True))


def _variants(both: _Both, keys: list[ClipKey], count: int) -> tuple[Callable[[], object], ...]:
    decided = both.decided(keys)
    return (
        partial(next, both.ours(keys, count)),
        partial(both.original, decided),
        partial(both.decode, decided),
    )
