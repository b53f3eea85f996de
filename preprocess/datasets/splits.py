"""A data set as all layouts describe it: classes, splits, and where each annotated video lies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vidom.errors import BadDataError
from vidom.files import read_lines

__all__ = ["DataSet", "Entry", "Source", "Split", "find_file", "read_class_list", "unique_entries"]


@dataclass(frozen=True)
class Source:
    """What the user names: the folder of downloads, the one to fill, and a class list of their own."""

    src: Path
    out: Path
    class_list: Path | None = None


@dataclass(frozen=True)
class Entry:
    """One annotated video.

    `name` is its folder of frames below the split's frame root, as the lists write it; `video` its path below
    the split's video root, spelled as on the disk, or None where the video is absent.
    """

    name: str
    video: str | None
    label: int


@dataclass(frozen=True)
class Split:
    """The videos of one pair of lists; `list_name` has a `{}` for `videos` or `rawframes`."""

    title: str
    list_name: str
    video_root: Path
    frame_root: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class DataSet:
    """Class names in the order of their ids, told by the file or folder `classes_from`, and the splits.

    `extracted` says that each entry's `video` is a folder of frames already.
    """

    labels: tuple[str, ...]
    classes_from: Path
    splits: tuple[Split, ...]
    extracted: bool = False


def find_file(
    src: Path, names: Sequence[str], *, folders: Sequence[str] = ("annotations", ".")
) -> Path | None:
    """Return the first of these files that exists in one of these folders of `src`, or None."""
    candidates = (src / folder / name for folder in folders for name in names)
    return next((path for path in candidates if path.is_file()), None)


def read_class_list(path: Path) -> tuple[str, ...]:
    """Return the class names of the file, one a line in the order of their ids; raises BadDataError for repetitions."""
    names = tuple(line.strip() for line in read_lines(path, what="class list"))
    if "" in names or len(set(names)) != len(names):
        raise BadDataError(
            f"The class list {path} has an empty line or a name twice. Expected one class name a line."
        )
    return names


def unique_entries(entries: Iterable[Entry], *, source: Path) -> tuple[Entry, ...]:
    """Return the entries, those that repeat an earlier one left out.

    Raises BadDataError, naming the annotation file or folder `source`, when one name has two labels or two videos,
    leaves the folder of frames, or could not be written into a list.
    """
    known: dict[str, Entry] = {}
    for entry in entries:
        path = PurePosixPath(entry.name)
        if path.is_absolute() or ".." in path.parts or not entry.name.isprintable():
            raise BadDataError(
                f"{source} names the video {entry.name!r}. Names are paths without '..', line breaks and other "
                "characters that cannot be printed; rename it."
            )
        if known.setdefault(entry.name, entry) != entry:
            raise BadDataError(
                f"{source} has {entry.name!r} twice: {known[entry.name].video} with label "
                f"{known[entry.name].label}, and {entry.video} with label {entry.label}. Only one can be kept; "
                "correct or rename one."
            )
    return tuple(known.values())
