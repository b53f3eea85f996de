"""Custom data sets: SPLIT/CLASS/VIDEO, or SPLIT/CLASS/FOLDER with the frames of a video."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from preprocess.datasets.splits import DataSet, Entry, Source, Split, read_class_list, unique_entries
from vidom.errors import BadDataError, UsageError

__all__ = ["locate_class_folders"]

_SPLITS = {"train": "train", "val": "val", "validation": "val", "test": "test"}
_SUFFIXES = frozenset(
    {".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"}
)
_ENDS_IN_NUMBER = re.compile(r"\s[0-9]+$")
_DIGITS = re.compile(r"([0-9]+)")


def locate_class_folders(source: Source) -> DataSet:
    """Return the videos in `train/`, `val/` and `test/`; a class is a folder, its id the position in ASCII order.

    The classes are those of `train/` if it exists, else of the first split; `class_list` overrides them. A class
    folder holds video files, or folders of frames from img_00000.jpg or img_00001.jpg on, which are used as they are.
    Extracted frame folders get the video's name with underscores for spaces. Within a class, numbers in names are
    sorted as numbers: clip_2 comes before clip_10. Raises UsageError if there are no such folders, BadDataError for a
    folder that is not a class, two videos of one name, or a mixture of files and folders.
    """
    roots = {_SPLITS[path.name]: path for path in _folders(source.src) if path.name in _SPLITS}
    titles = [title for title in ("train", "val", "test") if title in roots]
    if not titles:
        raise UsageError(
            f"{source.src} has none of the folders train, val and test. Lay the videos out as train/CLASS/VIDEO.mp4."
        )
    classes_from = source.class_list or roots[titles[0]]
    labels = (
        read_class_list(classes_from)
        if source.class_list
        else tuple(sorted(path.name for path in _folders(classes_from)))
    )
    if not labels:
        raise UsageError(
            f"{classes_from} holds no class folders. Lay the videos out as train/CLASS/VIDEO.mp4."
        )
    videos = {title: _videos(roots[title], labels) for title in titles}
    kinds = {path.is_dir() for found in videos.values() for path in found}
    if len(kinds) > 1:
        raise BadDataError(
            f"{source.src} holds both video files and frame folders. Keep one kind; the other can be prepared as a "
            "separate data set."
        )
    return DataSet(
        labels=labels,
        classes_from=classes_from,
        splits=tuple(_split(title, roots[title], videos[title], labels) for title in titles),
        extracted=kinds == {True},
    )


def _split(title: str, root: Path, videos: Iterable[Path], labels: tuple[str, ...]) -> Split:
    ids = {label: number for number, label in enumerate(labels)}
    return Split(
        title=title,
        list_name=f"{title}_list_{{}}.txt",
        video_root=root,
        frame_root=f"rawframes_{title}",
        entries=unique_entries((_entry(path, ids) for path in videos), source=root),
    )


def _entry(path: Path, ids: dict[str, int]) -> Entry:
    video = f"{path.parent.name}/{path.name}"
    # Lines of a list end in numbers: the folder "clip 3" of 45 frames would be read as frames 3 to 48 of "clip".
    if path.is_dir():
        if _ENDS_IN_NUMBER.search(path.name):
            raise BadDataError(
                f"The name of the frame folder {path} ends in a separate number, which a list cannot distinguish "
                "from the frame count. Replace the space by an underscore."
            )
        return Entry(video, video, ids[path.parent.name])
    return Entry(f"{path.parent.name}/{path.stem}".replace(" ", "_"), video, ids[path.parent.name])


def _videos(root: Path, labels: tuple[str, ...]) -> list[Path]:
    unknown = [path.name for path in _folders(root) if path.name not in labels]
    if unknown:
        raise BadDataError(
            f"{root} has {len(unknown)} folder(s) that are not classes: {', '.join(sorted(unknown)[:10])}. The classes "
            "are those of the first split or of --class_list."
        )
    return [
        path for label in labels for path in sorted(_visible(root / label), key=_natural) if _is_video(path)
    ]


def _is_video(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() in _SUFFIXES


def _folders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()]


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []


def _natural(path: Path) -> tuple[list[str | int], str]:
    """Return a sort key that compares runs of digits as numbers; text and numbers alternate, so that types match."""
    parts = _DIGITS.split(path.name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], path.name
