"""Extract many videos to frames: resumes after any interruption, and checks the disk space first."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from preprocess.datasets.frame_extraction import Extracted, ExtractionJob, ExtractionSettings, extract_frames
from preprocess.sources.frame_folders import frame_numbers
from vidom.errors import BadDataError, UnavailableError, UsageError
from vidom.files import free_bytes, human_bytes
from vidom.journals import append_line, open_journal, read_json_lines
from vidom.parallel.ray_cluster import RayCluster
from vidom.parallel.workers import each_finished
from vidom.progress import progress

__all__ = ["OnBad", "extract_all"]

_log = logging.getLogger(__name__)

OnBad = Literal["fail", "skip"]

_JOURNAL = "extraction.jsonl"
_MAX_PROBES = 16
_DISK_BLOCK = 4096


def extract_all(
    jobs: Sequence[ExtractionJob],
    *,
    settings: ExtractionSettings,
    out: Path,
    workers: int = 1,
    on_bad: OnBad = "fail",
    space_factor: float = 1.0,
    cluster: RayCluster | None = None,
) -> dict[str, Extracted]:
    """Extract the frames of all jobs, and return the result of each by its id; every frame folder is complete.

    Videos that an earlier, interrupted run finished are kept; unreadable videos are tried again. The journal
    `extraction.jsonl` holds the settings and a line per video, in the order of the jobs when all are done. A few
    videos, spread over the jobs, are extracted first, to estimate the disk space of all videos from theirs.

    Args:
        jobs: the videos to extract.
        settings: the settings of all jobs, which the journal records.
        out: the folder of the journal, which contains the folders of the jobs.
        workers: the number of processes.
        on_bad: whether an unreadable video stops the run or is skipped.
        space_factor: the disk space that is needed per byte of frames.
        cluster: a Ray cluster that runs the jobs instead of processes.

    Raises BadDataError at the first unreadable video unless `on_bad` is "skip", UnavailableError if too little
    disk space is free, UsageError if `out` holds frames made with different settings or of unknown origin.
    """
    header = settings.record()
    known = _finished(out / _JOURNAL, header, jobs)
    rest = [job for job in jobs if job.id not in known]
    _log.info(f"{len(jobs)} videos, {len(rest)} of them to be extracted with {header['decoder_version']}.")
    with (
        open_journal(out / _JOURNAL, [header, *map(asdict, known.values())]) as journal,
        progress(total=len(jobs), unit="video", label="extract", done=len(known)) as bar,
    ):
        for result in _results(rest, out=out, workers=workers, space_factor=space_factor, cluster=cluster):
            if result.reason and on_bad == "fail":
                raise BadDataError(
                    f"{result.reason} Extracted frames are kept. Fix this and rerun the command, or use --on_bad "
                    "skip to continue without such videos."
                )
            append_line(journal, asdict(result))
            known[result.id] = result
            bar.update()
    # In the order of the jobs, not in that in which they finished.
    open_journal(out / _JOURNAL, [header, *(asdict(known[job.id]) for job in jobs)]).close()
    return known


def _results(
    jobs: Sequence[ExtractionJob],
    *,
    out: Path,
    workers: int,
    space_factor: float,
    cluster: RayCluster | None,
) -> Iterator[Extracted]:
    count = min(_MAX_PROBES, max(1, len(jobs) // 8))
    probes = jobs[:: max(1, len(jobs) // count)][:count]
    yield from map(extract_frames, probes)
    ids = {job.id for job in probes}
    others = [job for job in jobs if job.id not in ids]
    _check_space(probes, others, out, space_factor)
    # Starting processes takes longer than a handful of videos.
    few = len(others) <= 2 * workers
    yield from each_finished(extract_frames, others, workers=1 if few else workers, cluster=cluster)


def _check_space(
    probes: Iterable[ExtractionJob], others: Iterable[ExtractionJob], out: Path, space_factor: float
) -> None:
    """Raise UnavailableError if the frames of the other videos probably do not fit on the disk."""
    made = [job for job in probes if job.folder.is_dir()]
    measured = sum(job.video.stat().st_size for job in made)
    remaining = sum(job.video.stat().st_size for job in others)
    if not measured or not remaining:
        return
    needed = space_factor * remaining * sum(_folder_bytes(job.folder) for job in made) / measured
    free = free_bytes(out)
    _log.info(
        f"About {human_bytes(needed)} of frames to write, estimated from {len(made)} videos; {human_bytes(free)} free."
    )
    if needed > free:
        raise UnavailableError(
            f"The frames need about {human_bytes(needed)} more, estimated from {len(made)} videos, but only "
            f"{human_bytes(free)} are free on the disk of {out}. Use a larger disk, --short_side or a lower --quality."
        )


def _folder_bytes(folder: Path) -> int:
    with os.scandir(folder) as entries:
        return sum(-(-entry.stat().st_size // _DISK_BLOCK) * _DISK_BLOCK for entry in entries)


def _finished(
    journal: Path, header: Mapping[str, Any], jobs: Iterable[ExtractionJob]
) -> dict[str, Extracted]:
    """Return the results of the jobs whose folders exist, with the count of the journal or else of the files."""
    found, *records = read_json_lines(journal) or [None]
    folders = {job.id: job.folder for job in jobs if job.folder.is_dir()}
    if found is None and folders:
        raise UsageError(
            f"{next(iter(folders.values()))} holds frames of unknown origin, because {journal} is missing. Choose "
            "a different --out, or check those frames with preprocess/audit.py and use them as they are."
        )
    if found is not None and found != header:
        raise _different_settings(journal.parent, found, header)
    counted = {record["id"]: record["frames"] for record in records if not record["reason"]}
    return {
        # The run may have been interrupted between renaming the folder and writing the line.
        name: Extracted(name, counted.get(name) or frame_numbers(folder).frames)
        for name, folder in folders.items()
    }


def _different_settings(out: Path, found: Any, requested: Mapping[str, Any]) -> UsageError:
    existing = found if isinstance(found, dict) else {}
    details = "; ".join(
        f"{key} {existing.get(key)!r} there, {requested[key]!r} requested"
        for key in requested
        if existing.get(key) != requested[key]
    )
    return UsageError(
        f"{out} already holds frames made with different settings ({details or 'unknown ones'}). Choose a different "
        "--out, or delete that folder first."
    )
