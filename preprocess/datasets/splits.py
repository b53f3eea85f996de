"""A data set in the form common to all layouts: classes, splits, and the path of each annotated video."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vidom.bounded_reading import read_lines
from vidom.errors import BadDataError

__all__ = ["DataSet", "Entry", "Source", "Split", "find_file", "read_class_list", "unique_entries"]


@dataclass(frozen=True)
class Source:
    """The user's input: the folder of downloads, the output folder, and optionally a class list."""

    src: Path
    out: Path
    class_list: Path | None = None


@dataclass(frozen=True)
class Entry:
    """One annotated video.

    `name` is its frame folder relative to the split's frame root, as written in the lists; `video` is its path
    relative to the split's video root, spelled as on disk, or None if the video is absent.
    """

    name: str
    video: str | None
    label: int


@dataclass(frozen=True)
class Split:
    """The videos of one pair of lists; `list_name` has a `{}` that becomes `videos` or `rawframes`."""

    title: str
    list_name: str
    video_root: Path
    frame_root: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class DataSet:
    """Class names in id order, read from the file or folder `classes_from`, and the splits.

    With `extracted`, each entry's `video` is a folder of frames that already exists.
    """

    labels: tuple[str, ...]
    classes_from: Path
    splits: tuple[Split, ...]
    extracted: bool = False


def find_file(
    src: Path, names: Sequence[str], *, folders: Sequence[str] = ("annotations", ".")
) -> Path | None:
    """Return the first existing file of these names in these folders of `src`, or None."""
    candidates = (src / folder / name for folder in folders for name in names)
    return next((path for path in candidates if path.is_file()), None)


def read_class_list(path: Path) -> tuple[str, ...]:
    """Return the class names in the file, one per line in id order; raises BadDataError for duplicates."""
    names = tuple(line.strip() for line in read_lines(path, what="class list"))
    if "" in names or len(set(names)) != len(names):
        raise BadDataError(
            f"The class list {path} has an empty line or a name twice. Expected one class name per line."
        )
    return names


def unique_entries(entries: Iterable[Entry], *, source: Path) -> tuple[Entry, ...]:
    """Return the entries without repetitions.

    Raises BadDataError, naming the annotation file or folder `source`, if a name has two labels or two videos,
    leaves the frame folder, or cannot be written to a list.
    """
    known: dict[str, Entry] = {}
    for entry in entries:
        path = PurePosixPath(entry.name)
        if path.is_absolute() or ".." in path.parts or not entry.name.isprintable():
            raise BadDataError(
                f"{source} names the video {entry.name!r}. Names are paths without '..', line breaks or other "
                "non-printable characters; rename it."
            )
        if known.setdefault(entry.name, entry) != entry:
            raise BadDataError(
                f"{source} has {entry.name!r} twice: {known[entry.name].video} with label "
                f"{known[entry.name].label}, and {entry.video} with label {entry.label}. Only one can be kept; "
                "correct or rename one."
            )
    return tuple(known.values())
