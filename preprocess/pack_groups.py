"""The files of a clip store: complete samples, one or several per file, or single views."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from preprocess.datasets.annotations import Annotation
from preprocess.datasets.sample_list import list_digest
from preprocess.sources.frames import FrameSource
from preprocess.tensors.clips import clip_views, read_clips
from preprocess.tensors.pixels import Dtype, Tensor, channels_last
from preprocess.tensors.samples import decoder_name, make_sample, open_source
from vidom.errors import BadDataError
from vidom.files import write_bytes
from vidom.formats.aipp import aipp_of
from vidom.formats.clip_store import ClipFile, Packed, Sample, Skipped, StoreHeader
from vidom.formats.recipe import Recipe

__all__ = ["Group", "StoreDtype", "pack_group", "store_header"]

StoreDtype = Literal["float32", "uint8", "aipp"]
"""The element type of a store; "aipp" is uint8 with channels last, for an NPU whose AIPP normalises images."""


@dataclass(frozen=True)
class Group:
    """The list positions that are packed together, with everything that a worker needs.

    `paths` is the file that the samples share, or one file for each view of a single sample.
    """

    paths: tuple[Path, ...]
    entries: tuple[tuple[int, Annotation], ...]
    data_root: Path
    recipe: Recipe
    header: StoreHeader


def store_header(
    recipe: Recipe, annotations: Sequence[Annotation], *, batch_size: int, per_view: bool, dtype: StoreDtype
) -> StoreHeader:
    """Return the header of a clip store packed from these samples: what all its tensors have in common.

    Args:
        recipe: the recipe of the store.
        annotations: the samples of the list, at least one.
        batch_size: samples per file.
        per_view: whether each view is in a separate file.
        dtype: the element type of the store.

    Raises UsageError for `per_view` of samples that are a single view already, and for "aipp" of samples that are not
    image sequences.
    """
    plan = (recipe.one_view() if per_view else recipe).views
    shape = plan.sample_shape
    layout: str = "frames" if plan.frame_size else plan.layout
    if dtype == "aipp":
        frames, (channels, height, width) = aipp_of(plan).frames_per_sample, shape[1:]
        shape, layout = (frames, height, width, channels), "NHWC"
    return StoreHeader(
        recipe=recipe.name,
        recipe_sha256=recipe.digest,
        list_sha256=list_digest(annotations),
        dtype="float32" if dtype == "float32" else "uint8",
        shape=shape,
        layout=layout,
        normalised=dtype == "float32",
        samples_per_file=batch_size,
        decoder=decoder_name(annotations[0], recipe.views.pipeline),
        views_per_sample=recipe.views.clips if per_view else 1,
        average_clips=recipe.head.average_clips if per_view else "",
    )


def pack_group(group: Group) -> Packed:
    """Write the group's files with the samples that can be read, and return what was written and skipped.

    Peak memory is one file's tensors, plus the crops of `read_clips` if views are in separate files.
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
        naming=group.recipe.dataset.frame_naming,
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
    write_bytes(path, content, durable=False)
    return ClipFile(
        name=path.name,
        bytes=tensor.nbytes,
        crc32=zlib.crc32(content),
        samples=tuple(sample.index for sample in samples),
        padding=padding,
        view=view,
    )
