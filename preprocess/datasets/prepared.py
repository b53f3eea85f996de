"""From annotated splits to prepared ones: their extraction jobs, lists, label files and record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from preprocess.datasets.extraction_run import OnBad
from preprocess.datasets.frame_extraction import Extracted, ExtractionJob, ExtractionSettings
from preprocess.datasets.splits import DataSet, Entry, Split
from preprocess.sources.frame_folders import frame_numbers
from vidom.errors import BadDataError
from vidom.files import write_json, write_text

__all__ = [
    "Excluded",
    "PreparedSplit",
    "count_extracted",
    "extraction_jobs",
    "flip_pairs",
    "job_id",
    "prepared_split",
    "write_labels",
    "write_lists",
    "write_record",
]

_MISSING = "There is no such video."
_SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Excluded:
    """An annotated video that is not listed, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class PreparedSplit:
    """A split: the entries with frames, in the order of the annotations, and the entries without."""

    split: Split
    frame_root: Path
    entries: tuple[tuple[Entry, int], ...]
    excluded: tuple[Excluded, ...]

    @property
    def summary(self) -> str:
        """One line with the number of listed, missing and unreadable videos."""
        annotated = len(self.entries) + len(self.excluded)
        missing = sum(1 for excluded in self.excluded if excluded.reason == _MISSING)
        return (
            f"{self.split.title}: {len(self.entries):,} of {annotated:,} videos "
            f"({missing:,} missing, {len(self.excluded) - missing:,} unreadable)"
        )


def job_id(split: Split, entry: Entry) -> str:
    """Return the id of the entry's extraction: its frame folder, which several splits may share."""
    return f"{split.frame_root}/{entry.name}"


def extraction_jobs(
    splits: Iterable[Split], out: Path, settings: ExtractionSettings
) -> tuple[ExtractionJob, ...]:
    """Return the extraction jobs of the splits, each once even if splits share videos."""
    jobs = {
        job_id(split, entry): ExtractionJob(
            job_id(split, entry),
            (split.video_root / entry.video).absolute(),
            (out / split.frame_root / entry.name).absolute(),
            settings,
        )
        for split in splits
        for entry in split.entries
        if entry.video is not None
    }
    return tuple(jobs.values())


def count_extracted(splits: Iterable[Split], on_bad: OnBad) -> dict[str, Extracted]:
    """Return the frame counts of folders that were extracted elsewhere, by job id.

    Raises BadDataError for a folder with missing frames, unless `on_bad` is "skip".
    """
    results = {}
    for split in splits:
        for entry in split.entries:
            numbers = frame_numbers(split.video_root / entry.name)
            reason = None
            if not numbers.frames or numbers.first > 1 or numbers.missing:
                reason = (
                    f"{split.video_root / entry.name} has {numbers.frames} frames img_00000.jpg or img_00001.jpg "
                    f"onwards, first {numbers.first}, missing {', '.join(map(str, numbers.missing)) or 'none'}."
                )
            if reason and on_bad == "fail":
                raise BadDataError(
                    f"{reason} Extract them again, or use --on_bad skip to continue without them."
                )
            results[job_id(split, entry)] = Extracted(job_id(split, entry), numbers.frames, reason)
    return results


def prepared_split(split: Split, *, frame_root: Path, results: Mapping[str, Extracted]) -> PreparedSplit:
    """Return the split, with its entries separated by whether `results`, keyed by `job_id`, hold their frames."""
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
    """Write the lists of the split to `out`, as mmaction2's `build_file_list.py` does, and return their paths.

    `..._rawframes.txt` has lines `FOLDER FRAMES LABEL` relative to the frame root; `..._videos.txt`, written if
    `videos`, has lines `VIDEO LABEL` relative to the video root.
    """
    rawframes = out / prepared.split.list_name.format("rawframes")
    _write_lines(rawframes, (f"{entry.name} {frames} {entry.label}" for entry, frames in prepared.entries))
    if not videos:
        return (rawframes,)
    list_of_videos = out / prepared.split.list_name.format("videos")
    _write_lines(list_of_videos, (f"{entry.video} {entry.label}" for entry, _ in prepared.entries))
    return rawframes, list_of_videos


def flip_pairs(labels: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return the pairs (lower id, higher id) of classes that swap when a video is mirrored.

    These are classes whose names differ by left and right exchanged. For Something-Something V2 they are (86, 87),
    (93, 94) and (166, 167), the `flip_label_map` of mmaction2's training configuration. Only complete words count:
    "upright" has no partner.
    """
    ids = {label: number for number, label in enumerate(labels)}
    pairs = ((number, ids.get(_mirrored(label), number)) for label, number in ids.items())
    return tuple((one, other) for one, other in pairs if one < other)


def write_labels(out: Path, labels: tuple[str, ...]) -> None:
    """Write `label_map.txt`, the class names in id order, and `flip_pairs.json` if there are mirrored classes."""
    _write_lines(out / "label_map.txt", labels)
    pairs = [{"ids": pair, "names": [labels[number] for number in pair]} for pair in flip_pairs(labels)]
    if pairs:
        write_json(out / "flip_pairs.json", pairs)


def write_record(
    out: Path, *, dataset: str, data: DataSet, settings: Mapping[str, Any], splits: Iterable[PreparedSplit]
) -> None:
    """Write `preparation.json`: sources, settings and splits, and the excluded videos with the reasons."""
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


def _mirrored(label: str) -> str:
    return _SIDE.sub(lambda word: _other_side(word[0]), label)


def _other_side(word: str) -> str:
    other = "right" if word.lower() == "left" else "left"
    return other.capitalize() if word[0].isupper() else other
