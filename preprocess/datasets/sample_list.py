"""The labelled videos that a recipe runs on: mmaction2's text lists, and StNet's JSON lists of packs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath

from preprocess.datasets.annotations import Annotation, is_json, path_fault, read_annotations
from preprocess.sources.frame_pack import read_pack_label
from vidom.bounded_reading import read_json
from vidom.errors import BadDataError, UsageError
from vidom.formats.recipe import Recipe

__all__ = ["list_digest", "list_samples", "pack_names", "read_pack_annotations"]

# The original removes ".mp4" by its length, without checking the last four characters.
_SUFFIX_LENGTH = 4


def list_samples(ann_file: Path, *, data_root: Path, recipe: Recipe) -> tuple[Annotation, ...]:
    """Return the list's samples in order, with labels checked against the recipe's classes.

    A `.json` list of {"video_name"} names packs in the folder of its own name: those of `val.json` are in `val`. Any
    other list is one of mmaction2's (see `preprocess.datasets.annotations`). Raises UsageError if
    `data_root` is not a folder, BadDataError as `read_annotations` and `read_pack_annotations` do.
    """
    if not data_root.is_dir():
        raise UsageError(
            f"The data root {data_root} is not a folder. Pass the folder that {ann_file} is relative to."
        )
    classes = recipe.dataset.num_classes
    if is_json(ann_file) and names_packs(ann_file):
        return read_pack_annotations(ann_file, data_root=data_root, folder=ann_file.stem, num_classes=classes)
    return read_annotations(ann_file, num_classes=classes)


def list_digest(annotations: Sequence[Annotation]) -> str:
    """Return a SHA-256 over the samples and their order, independent of the list's path and formatting."""
    entries = json.dumps([asdict(annotation) for annotation in annotations]).encode()
    return hashlib.sha256(entries).hexdigest()


def names_packs(ann_file: Path) -> bool:
    """Return whether the first entry of the JSON list names a pack, as StNet's lists do."""
    entries = read_json(ann_file, what="list")
    return (
        isinstance(entries, list)
        and bool(entries[:1])
        and isinstance(entries[0], dict)
        and "video_name" in entries[0]
    )


def pack_names(ann_file: Path) -> tuple[str, ...]:
    """Return the names, without `.pkl`, of the packs listed in a JSON array of {"video_name": "x.mp4"}.

    This is the format of StNet's `train.json` and `val.json`. Raises BadDataError if the file is not such an array, is
    empty, or has a name that leaves its folder or appears twice.
    """
    entries = read_json(ann_file, what="list")
    if not isinstance(entries, list) or not entries:
        raise BadDataError(
            f'The list {ann_file} must be a JSON array of {{"video_name": "x.mp4"}}, not empty.'
        )
    names: dict[str, None] = {}
    for number, entry in enumerate(entries, 1):
        video = entry.get("video_name") if isinstance(entry, dict) else None
        if not isinstance(video, str) or len(video) <= _SUFFIX_LENGTH:
            raise BadDataError(f'Entry {number} of the list {ann_file} has no "video_name" such as "x.mp4".')
        name = video[:-_SUFFIX_LENGTH]
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or path_fault(name) or name in names:
            raise BadDataError(
                f"Entry {number} of the list {ann_file}, {video[:120]!r}, is not a file name, leaves the folder of "
                "packs or appears twice. Write each video's name once, relative to that folder."
            )
        names[name] = None
    return tuple(names)


def read_pack_annotations(
    ann_file: Path, *, data_root: Path, folder: str, num_classes: int | None = None
) -> tuple[Annotation, ...]:
    """Return the annotations of the packs `data_root/folder/NAME.pkl` that the list names, in its order.

    The labels come from the packs, of which only the first bytes are read. Raises BadDataError as `pack_names` and
    `read_pack_label` do, and for a label outside the classes.
    """
    annotations = []
    for name in pack_names(ann_file):
        path = f"{folder}/{name}.pkl"
        label = read_pack_label(data_root / path)
        if num_classes is not None and label >= num_classes:
            raise BadDataError(
                f"The pack {data_root / path} has label {label}, but the recipe has the classes 0 to "
                f"{num_classes - 1}. It belongs to a different data set."
            )
        annotations.append(Annotation(name, path, None, label))
    return tuple(annotations)
