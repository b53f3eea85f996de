"""Kinetics-400: official CSV annotations and the clips that are still available."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
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
from vidom.bounded_reading import read_text
from vidom.errors import BadDataError, UsageError

__all__ = ["class_folder", "locate_kinetics400"]

_CSV_NAMES = {
    "train": ("kinetics_train.csv", "kinetics400_train.csv", "kinetics-400_train.csv", "train.csv"),
    "val": ("kinetics_val.csv", "kinetics400_val.csv", "kinetics-400_val.csv", "validate.csv", "val.csv"),
}
_ROOTS = {"train": ("videos_train", "train", "."), "val": ("videos_val", "val", "validate", ".")}
_SUFFIXES = (".mp4", ".mkv", ".webm")
_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_YOUTUBE_ID = re.compile(r"[0-9A-Za-z_-]{1,32}")
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")


def locate_kinetics400(source: Source) -> DataSet:
    """Return the annotated clips of the training and the validation set, in the order of the CSV files.

    Classes are numbered in the ASCII order of their names in kinetics_train.csv, without quotation marks and with
    underscores for spaces, as in mmaction2; for the official file MindSpore's order of the plain names is the same.
    `class_list` overrides them. A clip is `YOUTUBEID_%06d_%06d.mp4` in `videos_train/`, `train/` or the folder itself,
    with or without a folder of its class, with spaces or underscores. Raises UsageError if no CSV or no classes are
    found, BadDataError if they are inconsistent.
    """
    files = {title: find_file(source.src, names) for title, names in _CSV_NAMES.items()}
    classes_from = source.class_list or files["train"]
    if not any(files.values()) or classes_from is None:
        raise UsageError(
            f"{source.src} lacks kinetics_train.csv, which defines the classes, or kinetics_val.csv with a class list. "
            f"Put the official files into {source.src / 'annotations'}; for the validation set alone pass "
            "--class_list, e.g. om_models/labels/k400.txt."
        )
    labels = read_class_list(classes_from) if source.class_list else _classes(classes_from)
    return DataSet(
        labels=labels,
        classes_from=classes_from,
        splits=tuple(_split(title, path, labels, source.src) for title, path in files.items() if path),
    )


def class_folder(label: str) -> str:
    """Return the name of the folder of a class in mmaction2's layout: underscores for spaces."""
    return label.replace(" ", "_")


def _classes(path: Path) -> tuple[str, ...]:
    return tuple(sorted({label for label, _ in _clips(path)}, key=class_folder))


def _split(title: str, path: Path, labels: tuple[str, ...], src: Path) -> Split:
    # All clips of a split are in one folder, the first that exists.
    root = next(src / folder for folder in _ROOTS[title] if (src / folder).is_dir())
    return Split(
        title=title,
        list_name=f"kinetics400_{title}_list_{{}}.txt",
        video_root=root,
        frame_root=f"rawframes_{title}",
        entries=unique_entries(_entries(path, labels, root), source=path),
    )


def _entries(path: Path, labels: tuple[str, ...], root: Path) -> Iterator[Entry]:
    ids = {class_folder(label): number for number, label in enumerate(labels)}
    for label, stem in _clips(path):
        folder = class_folder(label)
        if folder not in ids:
            raise BadDataError(
                f"{path} has the class {label!r} for {stem}, which is not one of the {len(ids)} classes."
            )
        candidates = (
            f"{start}{stem}{suffix}" for suffix in _SUFFIXES for start in (f"{folder}/", f"{label}/", "")
        )
        video = next((candidate for candidate in candidates if (root / candidate).is_file()), None)
        yield Entry(f"{folder}/{stem}", video, ids[folder])


def _clips(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (class name, file name without suffix) of each row."""
    text = io.StringIO(read_text(path, what="annotations"), newline="")
    try:
        rows = csv.DictReader(text)
        missing = set(_COLUMNS) - set(rows.fieldnames or ())
        if missing:
            raise BadDataError(f"The first line of {path} lacks the column(s) {', '.join(sorted(missing))}.")
        for row in rows:
            yield _clip(row, path, rows.line_num)
    except csv.Error as error:
        raise BadDataError(
            f"The annotations {path} are not CSV in the format of Kinetics ({error})."
        ) from None


def _clip(row: dict[str, str | None], path: Path, line: int) -> tuple[str, str]:
    values = [row[column] or "" for column in _COLUMNS]
    label, youtube_id, *times = values[0].replace('"', ""), *values[1:]
    plain = label.isprintable() and not set("/\\") & set(label) and label.strip(" .")
    if not plain or not _YOUTUBE_ID.fullmatch(youtube_id) or not all(map(_SECONDS.fullmatch, times)):
        raise BadDataError(
            f"Line {line} of {path} reads {','.join(values)[:120]!r}; expected a class name, a YouTube id and two "
            "times in seconds. The test set has no labels and cannot be used."
        )
    start, end = (int(float(time)) for time in times)
    return label, f"{youtube_id}_{start:06d}_{end:06d}"
