"""Lists, label files and the record of a prepared data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from preprocess.datasets.flips import flip_pairs
from preprocess.datasets.frame_extraction import Extracted
from preprocess.datasets.splits import DataSet, Entry, Split
from vidom.files import write_json, write_text

__all__ = [
    "Excluded",
    "PreparedSplit",
    "job_id",
    "prepared_split",
    "write_labels",
    "write_lists",
    "write_record",
]


@dataclass(frozen=True)
class Excluded:
    """An annotated video that is in no list, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class PreparedSplit:
    """A split with the entries that have frames, in the order of the annotations, and those that have none."""

    split: Split
    frame_root: Path
    entries: tuple[tuple[Entry, int], ...]
    excluded: tuple[Excluded, ...]

    @property
    def summary(self) -> str:
        """Say how many of the annotated videos are in the lists, and what became of the others."""
        annotated = len(self.entries) + len(self.excluded)
        missing = sum(1 for excluded in self.excluded if excluded.reason == _MISSING)
        return (
            f"{self.split.title}: {len(self.entries):,} of {annotated:,} videos "
            f"({missing:,} missing, {len(self.excluded) - missing:,} unreadable)"
        )


_MISSING = "There is no such video."


def job_id(split: Split, entry: Entry) -> str:
    """Return the id of the entry's extraction: its folder of frames, which several splits may share."""
    return f"{split.frame_root}/{entry.name}"


def prepared_split(split: Split, *, frame_root: Path, results: Mapping[str, Extracted]) -> PreparedSplit:
    """Return the split, its entries parted by whether `results`, keyed by `job_id`, have frames of them."""
    entries: list[tuple[Entry, int]] = []
    excluded: list[Excluded] = []
    for entry in split.entries:
        result = results.get(job_id(split, entry))
        if result is None:
            excluded.append(Excluded(entry.name, _MISSING))
        elif result.reason:
            excluded.append(Excluded(entry.name, result.reason))
        else:
            entries.append((entry, result.frames))
    return PreparedSplit(split, frame_root, tuple(entries), tuple(excluded))


def write_lists(out: Path, prepared: PreparedSplit, *, videos: bool) -> tuple[Path, ...]:
    """Return the lists of the split after writing them in `out`, as mmaction2's `build_file_list.py` does.

    `..._rawframes.txt` has lines `FOLDER FRAMES LABEL` relative to the frame root, `..._videos.txt` lines
    `VIDEO LABEL` relative to the video root; the latter only where there are `videos`.
    """
    rawframes = out / prepared.split.list_name.format("rawframes")
    _write_lines(rawframes, (f"{entry.name} {frames} {entry.label}" for entry, frames in prepared.entries))
    if not videos:
        return (rawframes,)
    list_of_videos = out / prepared.split.list_name.format("videos")
    _write_lines(list_of_videos, (f"{entry.video} {entry.label}" for entry, _ in prepared.entries))
    return rawframes, list_of_videos


def write_labels(out: Path, labels: tuple[str, ...]) -> None:
    """`label_map.txt` holds the class names in the order of their ids, `flip_pairs.json` mirrored ones if any."""
    _write_lines(out / "label_map.txt", labels)
    pairs = [{"ids": pair, "names": [labels[number] for number in pair]} for pair in flip_pairs(labels)]
    if pairs:
        write_json(out / "flip_pairs.json", pairs)


def write_record(
    out: Path, *, dataset: str, data: DataSet, settings: Mapping[str, Any], splits: Iterable[PreparedSplit]
) -> None:
    """`preparation.json` says what was made of what, and which videos were left out and why."""
    write_json(
        out / "preparation.json",
        {
            "dataset": dataset,
            "num_classes": len(data.labels),
            "classes_from": str(data.classes_from),
            "frames": dict(settings),
            "splits": [
                {
                    "title": prepared.split.title,
                    "annotated": len(prepared.split.entries),
                    "listed": len(prepared.entries),
                    "video_root": str(prepared.split.video_root),
                    "frame_root": str(prepared.frame_root),
                    "excluded": [asdict(excluded) for excluded in prepared.excluded],
                }
                for prepared in splits
            ],
        },
    )


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    write_text(path, "".join(f"{line}\n" for line in lines))
