"""The clip files of some list positions: whole samples, several a file if asked for, or single views."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocess.datasets.annotations import Annotation
from preprocess.sources.frames import FrameSource
from preprocess.tensors.clips import clip_views, read_clips
from preprocess.tensors.pixels import Dtype, Tensor, channels_last
from preprocess.tensors.samples import make_sample, open_source
from vidom.errors import BadDataError
from vidom.files import write_bytes
from vidom.formats.clip_store import ClipFile, Sample, Skipped, StoreHeader
from vidom.formats.recipe import Recipe

__all__ = ["Group", "Packed", "pack_group"]


@dataclass(frozen=True)
class Group:
    """The list positions that are packed together, and all that a worker needs for it.

    `paths` is the one file that their samples share, or a file for each view of the one sample.
    """

    paths: tuple[Path, ...]
    entries: tuple[tuple[int, Annotation], ...]
    data_root: Path
    recipe: Recipe
    header: StoreHeader


@dataclass(frozen=True)
class Packed:
    """What became of a group."""

    files: tuple[ClipFile, ...]
    samples: tuple[Sample, ...]
    skipped: tuple[Skipped, ...]


def pack_group(group: Group) -> Packed:
    """The group's files are on disk, whole, with the samples that could be read; the others are told.

    Memory is that of one file's tensors, and of the crops of `read_clips` where views are apart.
    """
    return _pack_views(group) if group.header.views_per_sample > 1 else _pack_samples(group)


def _pack_samples(group: Group) -> Packed:
    shape = (group.header.samples_per_file, *group.recipe.views.sample_shape)
    rows: Tensor = np.empty(shape, group.header.dtype)
    samples: list[Sample] = []
    skipped: list[Skipped] = []
    for index, entry in group.entries:
        try:
            made = make_sample(
                _source(group, entry), group.recipe.views, dtype=_dtype(group), out=rows[len(samples)]
            )
        except BadDataError as error:
            skipped.append(Skipped(index, entry.id, entry.path, str(error)))
        else:
            samples.append(Sample(index, entry.id, entry.label, entry.path, made.frames))
    if not samples:
        return Packed((), (), tuple(skipped))
    rows[len(samples) :] = rows[0]
    clip_file = _written(group, group.paths[0], rows, samples, padding=len(rows) - len(samples))
    return Packed((clip_file,), tuple(samples), tuple(skipped))


def _pack_views(group: Group) -> Packed:
    ((index, entry),) = group.entries
    try:
        crops = read_clips(_source(group, entry), group.recipe.views)
    except BadDataError as error:
        return Packed((), (), (Skipped(index, entry.id, entry.path, str(error)),))
    samples = (Sample(index, entry.id, entry.label, entry.path, crops.frames),)
    views = clip_views(crops, group.recipe.views, dtype=_dtype(group))
    files = tuple(
        _written(group, path, tensor, samples, view=view)
        for view, (path, tensor) in enumerate(zip(group.paths, views, strict=True))
    )
    return Packed(files, samples, ())


def _source(group: Group, entry: Annotation) -> FrameSource:
    return open_source(
        entry,
        data_root=group.data_root,
        pipeline=group.recipe.views.pipeline,
        template=group.recipe.dataset.frame_template,
    )


def _dtype(group: Group) -> Dtype:
    return "uint8" if group.header.dtype == "uint8" else "float32"


def _written(
    group: Group,
    path: Path,
    tensor: Tensor,
    samples: Sequence[Sample],
    *,
    padding: int = 0,
    view: int = 0,
) -> ClipFile:
    if group.header.layout == "NHWC":
        tensor = channels_last(tensor.view(np.uint8))
    content = tensor.reshape(-1).view(np.uint8).data
    write_bytes(path, content)
    return ClipFile(
        name=path.name,
        bytes=tensor.nbytes,
        crc32=zlib.crc32(content),
        samples=tuple(sample.index for sample in samples),
        padding=padding,
        view=view,
    )
