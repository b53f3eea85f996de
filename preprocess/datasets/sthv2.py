"""Something-Something V2: official JSON annotations, and `.webm` videos in a folder or the multi-part archive."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from preprocess.datasets.archives import archive_parts, unpack_videos
from preprocess.datasets.splits import DataSet, Entry, Source, Split, find_file, unique_entries
from vidom.bounded_reading import read_json
from vidom.errors import BadDataError, UsageError

__all__ = ["ARCHIVE", "locate_sthv2"]

ARCHIVE = "20bn-something-something-v2"

_PREFIX = "something-something-v2-"
_FOLDERS = ("annotations", "labels", ".")
_VIDEO_FOLDERS = ("videos", ARCHIVE, ".")
_SPLITS = {"train": "train", "validation": "val"}
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


def locate_sthv2(source: Source) -> DataSet:
    """Return the labelled videos of the training and the validation set, in the order of the annotations.

    An entry's class is the number of its template, without the brackets, in the labels file. Videos are in `videos/`,
    `20bn-something-something-v2/` or the folder itself; if there are only the parts of the archive, the labelled
    videos are first unpacked to `OUT/videos`. Raises UsageError if annotations or videos are not found, BadDataError
    if they are inconsistent.
    """
    labels_file = _annotation(source.src, "labels")
    splits = {split: find_file(source.src, _names(split), folders=_FOLDERS) for split in _SPLITS}
    if labels_file is None or not any(splits.values()):
        raise UsageError(
            f"{source.src} lacks {_PREFIX}labels.json, or both {_PREFIX}train.json and {_PREFIX}validation.json. "
            f"Put them into {source.src / 'annotations'}."
        )
    numbers = _numbers(labels_file)
    annotated = {split: _read_split(path, numbers) for split, path in splits.items() if path}
    video_root = _video_root(source, {name for entries in annotated.values() for name in entries})
    return DataSet(
        labels=tuple(sorted(numbers, key=numbers.__getitem__)),
        classes_from=labels_file,
        splits=tuple(
            Split(
                title=_SPLITS[split],
                list_name=f"sthv2_{_SPLITS[split]}_list_{{}}.txt",
                video_root=video_root,
                frame_root="rawframes",
                entries=tuple(_located(entries, video_root)),
            )
            for split, entries in annotated.items()
        ),
    )


def _annotation(src: Path, name: str) -> Path | None:
    return find_file(src, _names(name), folders=_FOLDERS)


def _names(name: str) -> tuple[str, ...]:
    # In Qualcomm's download they are named labels/train.json and so on.
    return (f"{_PREFIX}{name}.json", f"{name}.json")


def _numbers(path: Path) -> dict[str, int]:
    """Return the class numbers by name: 0 to n-1, each once, in any order."""
    document = read_json(path, what="labels file")
    try:
        numbers = {str(name): int(number) for name, number in document.items()}
    except (AttributeError, TypeError, ValueError):
        numbers = {}
    if not numbers or sorted(numbers.values()) != list(range(len(numbers))):
        raise BadDataError(
            f'The labels file {path} must map each class name to its number as text, "0" upwards.'
        )
    return numbers


def _read_split(path: Path, numbers: dict[str, int]) -> dict[str, int]:
    """Return the label of each video id, in the order of the file."""
    entries = read_json(path, what="annotations")
    if not isinstance(entries, list):
        raise BadDataError(f"The annotations {path} must be a list of entries with `id` and `template`.")
    pairs = unique_entries((_entry(entry, numbers, path) for entry in entries), source=path)
    return {entry.name: entry.label for entry in pairs}


def _entry(entry: Any, numbers: dict[str, int], path: Path) -> Entry:
    name, template = (entry.get("id"), entry.get("template")) if isinstance(entry, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(template, str) or not _ID.fullmatch(name):
        raise BadDataError(
            f"The annotations {path} have the entry {str(entry)[:200]}. Expected an object with `id`, a plain name, "
            "and `template`; the entries of the test set have no label and cannot be used."
        )
    label = numbers.get(template.replace("[", "").replace("]", ""))
    if label is None:
        raise BadDataError(
            f"Video {name} of {path} has the template {template!r}, which without its brackets is not a class of the "
            "labels file. The two files belong to different versions."
        )
    return Entry(name, None, label)


def _video_root(source: Source, names: set[str]) -> Path:
    for folder in _VIDEO_FOLDERS:
        if _holds_videos(source.src / folder):
            return source.src / folder
    parts = archive_parts(source.src, ARCHIVE)
    if not parts:
        raise UsageError(
            f"{source.src} holds neither *.webm in {', '.join(_VIDEO_FOLDERS)} nor the archive parts {ARCHIVE}-00, "
            f"{ARCHIVE}-01 and so on. Put the videos into {source.src / 'videos'}."
        )
    unpack_videos(parts, source.out / "videos", names=names, suffix=".webm")
    return source.out / "videos"


def _holds_videos(folder: Path) -> bool:
    """Return whether the folder holds a video; of its up to 220,000 entries the first video is enough."""
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(entry.name.endswith(".webm") for entry in entries)


def _located(entries: dict[str, int], video_root: Path) -> Iterator[Entry]:
    for name, label in entries.items():
        video = f"{name}.webm"
        yield Entry(name, video if (video_root / video).is_file() else None, label)
