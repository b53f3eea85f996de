"""Many videos to frames: continued after any kind of death, refused when the disk is too small."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from preprocess.datasets.frame_extraction import Extracted, ExtractionJob, ExtractionSettings, extract_frames
from preprocess.sources.frame_folders import frame_numbers
from vidom.errors import BadDataError, UnavailableError, UsageError
from vidom.files import append_line, free_bytes, human_bytes, read_json_lines, write_text
from vidom.parallel.ray_cluster import RayCluster
from vidom.parallel.workers import each_finished
from vidom.progress import progress

__all__ = ["OnBad", "extract_all"]

_log = logging.getLogger(__name__)

OnBad = Literal["fail", "skip"]

_JOURNAL = "extraction.jsonl"
_MAX_TRIED = 16
_DISK_BLOCK = 4096


def extract_all(
    jobs: Sequence[ExtractionJob],
    *,
    settings: ExtractionSettings,
    out: Path,
    workers: int = 1,
    on_bad: OnBad = "fail",
    room_factor: float = 1.0,
    cluster: RayCluster | None = None,
) -> dict[str, Extracted]:
    """Return what became of each job, by its id; every folder of frames under `out` is whole.

    What an earlier, killed run finished is kept, unreadable videos are tried again. The journal
    `extraction.jsonl` holds the settings and a line per video, in the order of the jobs once all is done. A
    few videos, spread over the jobs, come first; when what they took, carried over to the bytes of all videos
    and times `room_factor`, is more than the disk has left, UnavailableError is raised. Raises BadDataError at the first
    unreadable video unless `on_bad` is "skip", and UsageError when `out` holds frames made with other settings
    or of unknown origin.
    """
    header = settings.record()
    known = _finished(out / _JOURNAL, header, jobs)
    rest = [job for job in jobs if job.id not in known]
    _log.info(f"{len(jobs)} videos, {len(rest)} of them to be extracted with {header['decoder_version']}.")
    write_text(out / _JOURNAL, _lines([header, *map(asdict, known.values())]))
    with (
        (out / _JOURNAL).open("a", encoding="utf-8") as journal,
        progress(total=len(jobs), unit="video", label="extract", done=len(known)) as bar,
    ):
        for result in _results(rest, out=out, workers=workers, room_factor=room_factor, cluster=cluster):
            if result.reason and on_bad == "fail":
                raise BadDataError(
                    f"{result.reason} What was extracted so far is kept. Mend this and run the same command "
                    "again, or use --on_bad skip to go on without such videos."
                )
            append_line(journal, asdict(result))
            known[result.id] = result
            bar.update()
    # In the order of the jobs, whoever finished first.
    write_text(out / _JOURNAL, _lines([header, *(asdict(known[job.id]) for job in jobs)]))
    return known


def _results(
    jobs: Sequence[ExtractionJob],
    *,
    out: Path,
    workers: int,
    room_factor: float,
    cluster: RayCluster | None,
) -> Iterator[Extracted]:
    count = min(_MAX_TRIED, max(1, len(jobs) // 8))
    tried = jobs[:: max(1, len(jobs) // count)][:count]
    yield from map(extract_frames, tried)
    ids = {job.id for job in tried}
    others = [job for job in jobs if job.id not in ids]
    _check_room(tried, others, out, room_factor)
    # Starting processes takes longer than a handful of videos.
    few = len(others) <= 2 * workers
    yield from each_finished(extract_frames, others, workers=1 if few else workers, cluster=cluster)


def _check_room(
    tried: Iterable[ExtractionJob], others: Iterable[ExtractionJob], out: Path, room_factor: float
) -> None:
    """Do nothing if the frames of the other videos seem to fit on the disk, else raise UnavailableError."""
    made = [job for job in tried if job.folder.is_dir()]
    measured = sum(job.video.stat().st_size for job in made)
    to_come = sum(job.video.stat().st_size for job in others)
    if not measured or not to_come:
        return
    needed = room_factor * to_come * sum(_folder_bytes(job.folder) for job in made) / measured
    free = free_bytes(out)
    _log.info(
        f"About {human_bytes(needed)} of frames to come, judging by {len(made)} videos; {human_bytes(free)} free."
    )
    if needed > free:
        raise UnavailableError(
            f"The frames need about {human_bytes(needed)} more, judging by {len(made)} of the videos, but only "
            f"{human_bytes(free)} are free where {out} lies. Use a larger disk, --short_side or a lower --quality."
        )


def _folder_bytes(folder: Path) -> int:
    with os.scandir(folder) as entries:
        return sum(-(-entry.stat().st_size // _DISK_BLOCK) * _DISK_BLOCK for entry in entries)


def _finished(
    journal: Path, header: Mapping[str, Any], jobs: Iterable[ExtractionJob]
) -> dict[str, Extracted]:
    """Return the jobs whose folders are there, as the journal counts them or, failing that, by their files."""
    found, *records = read_json_lines(journal) or [None]
    folders = {job.id: job.folder for job in jobs if job.folder.is_dir()}
    if found is None and folders:
        raise UsageError(
            f"{next(iter(folders.values()))} holds frames that no record says the origin of, for {journal} is "
            "missing. Choose another --out, or check those frames with preprocess/audit.py and use them as they are."
        )
    if found is not None and found != header:
        raise _other_settings(journal.parent, found, header)
    counted = {record["id"]: record["frames"] for record in records if not record["reason"]}
    return {
        # The run may have been killed between naming the folder and writing the line.
        name: Extracted(name, counted.get(name) or frame_numbers(folder).frames)
        for name, folder in folders.items()
    }


def _other_settings(out: Path, found: Any, wanted: Mapping[str, Any]) -> UsageError:
    there = found if isinstance(found, dict) else {}
    details = "; ".join(
        f"{key} {there.get(key)!r} there, {wanted[key]!r} asked for"
        for key in wanted
        if there.get(key) != wanted[key]
    )
    return UsageError(
        f"{out} already holds frames made with other settings ({details or 'unknown ones'}). Choose another --out, "
        "or delete that folder first."
    )


def _lines(documents: Iterable[Any]) -> str:
    return "".join(f"{json.dumps(document, ensure_ascii=False)}\n" for document in documents)
