"""UCF101 with its three official splits, and its subset of sports on which PaddleSports is trained."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from preprocess.datasets.splits import (
    DataSet,
    Entry,
    Source,
    Split,
    find_file,
    read_class_list,
    unique_entries,
)
from vidom.bounded_reading import read_lines
from vidom.errors import BadDataError, UsageError
from vidom.formats.recipe import recipe_folder

__all__ = ["locate_ucf101", "locate_ucf101_66"]

Spellings = Callable[[Path], dict[str, str]]
"""Return the names in a folder by their lower-case form."""

_FOLDERS = ("annotations", "ucfTrainTestlist", ".")
_VIDEO_FOLDERS = ("videos", "UCF-101", ".")
_LISTS = {"train": "trainlist{:02}.txt", "val": "testlist{:02}.txt"}
_CLASS = re.compile(r"([0-9]{1,4})\s+(\S+)")
_VIDEO = re.compile(r"([^/\s]+)/([^/\s]+)\.avi(?:\s+([0-9]{1,4}))?")


def locate_ucf101(source: Source) -> DataSet:
    """Return the videos of the official lists; a class id is its number in classInd.txt minus one.

    classInd.txt is not in ASCII order (Hammering comes before HammerThrow), so ids are never derived from folder
    names. Videos are found even if upper and lower case differ on disk; their frames are named as in the lists. Raises
    UsageError if the lists are not found, BadDataError if they are inconsistent.
    """
    classes_file = _class_file(source.src)
    numbers = _class_numbers(classes_file)
    return _data_set(source, "ucf101", numbers, tuple(numbers), classes_file)


def locate_ucf101_66(source: Source) -> DataSet:
    """Return the videos of UCF101 whose class is in the class list; a class id is the position in that list.

    The list is the label file of the recipe pptsm_ucf101_66 or `class_list`. PaddleSports publishes 65 names for its
    66 classes, so the label file contains a placeholder, and is rejected until it is replaced. Raises BadDataError for
    a name that is not in classInd.txt, else as `locate_ucf101`.
    """
    path = source.class_list or recipe_folder() / "labels" / "ucf101_66.txt"
    labels = read_class_list(path)
    official = _class_numbers(_class_file(source.src))
    unknown = [name for name in labels if name not in official]
    if unknown:
        raise BadDataError(
            f"The class list {path} has {len(unknown)} name(s) that are not in classInd.txt: "
            f"{', '.join(unknown[:10])}. Names must match it exactly, including case. Correct the list, or pass "
            "your own as --class_list, in the order of the checkpoint."
        )
    return _data_set(source, "ucf101_66", official, labels, path)


def _class_file(src: Path) -> Path:
    path = find_file(src, ["classInd.txt"], folders=_FOLDERS)
    if path is None:
        raise UsageError(
            f"{src} lacks classInd.txt. Put the files of UCF101TrainTestSplits-RecognitionTask.zip into "
            f"{src / 'annotations'}."
        )
    return path


def _class_numbers(path: Path) -> dict[str, int]:
    """Return the official class ids, from 0, by name, in the order of the file."""
    found = [_CLASS.fullmatch(line.strip()) for line in read_lines(path, what="class index")]
    numbers = {match[2]: int(match[1]) - 1 for match in found if match}
    if len(numbers) != len(found) or list(numbers.values()) != list(range(len(numbers))):
        raise BadDataError(
            f"The class index {path} must have lines `1 ApplyEyeMakeup`, `2 ...`, numbered from 1."
        )
    return numbers


def _data_set(
    source: Source, name: str, official: dict[str, int], labels: tuple[str, ...], classes_from: Path
) -> DataSet:
    root = next(
        (source.src / folder for folder in _VIDEO_FOLDERS if (source.src / folder).is_dir()), source.src
    )
    spellings = cache(_spellings)
    splits = []
    for number in (1, 2, 3):
        for title, template in _LISTS.items():
            path = find_file(source.src, [template.format(number)], folders=_FOLDERS)
            if path:
                entries = unique_entries(_entries(path, official, labels, root, spellings), source=path)
                list_name = f"{name}_{title}_split_{number}_{{}}.txt"
                splits.append(Split(f"{title} split {number}", list_name, root, "rawframes", entries))
    if not splits:
        raise UsageError(f"{source.src} lacks trainlist01.txt to testlist03.txt next to classInd.txt.")
    return DataSet(labels, classes_from, tuple(splits))


def _entries(
    path: Path, official: dict[str, int], labels: tuple[str, ...], root: Path, spellings: Spellings
) -> Iterator[Entry]:
    ids = {label: number for number, label in enumerate(labels)}
    for line in read_lines(path, what="split list"):
        if not line.strip():
            continue
        match = _VIDEO.fullmatch(line.strip())
        if not match or match[1] not in official:
            raise BadDataError(
                f"The split list {path} has the line {line[:120]!r}; expected `CLASS/VIDEO.avi [NUMBER]`."
            )
        folder, stem, number = match.groups()
        if number is not None and int(number) - 1 != official[folder]:
            raise BadDataError(
                f"The split list {path} gives {folder}/{stem} the class {number}, but classInd.txt "
                f"gives {official[folder] + 1}. The files belong to different versions."
            )
        if folder in ids:
            video = _spelled_as_on_disk(folder, f"{stem}.avi", root, spellings)
            yield Entry(f"{folder}/{stem}", video, ids[folder])


def _spelled_as_on_disk(folder: str, file: str, root: Path, spellings: Spellings) -> str | None:
    if (root / folder / file).is_file():
        return f"{folder}/{file}"
    real_folder = spellings(root).get(folder.lower())
    real_file = spellings(root / real_folder).get(file.lower()) if real_folder else None
    return f"{real_folder}/{real_file}" if real_file else None


def _spellings(folder: Path) -> dict[str, str]:
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name.lower(): entry.name for entry in entries}
