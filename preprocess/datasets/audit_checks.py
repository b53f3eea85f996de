"""Checks of one annotated video or frame folder, which open and decode all of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from preprocess.datasets.annotations import Annotation
from preprocess.sources.frame_folders import FrameNumbers, frame_numbers
from preprocess.sources.frames import RawFrames
from preprocess.sources.video import VideoFile
from vidom.errors import BadDataError
from vidom.formats.frame_naming import FrameNaming

__all__ = ["WARNINGS", "AuditJob", "Problem", "ProblemKind", "check_sample"]

ProblemKind = Literal[
    "malformed_line",
    "outside_data_root",
    "duplicate_id",
    "label_outside_classes",
    "missing",
    "zero_length",
    "unreadable",
    "gap",
    "fewer_frames",
    "uneven_size",
    "too_short",
    "surplus_frames",
    "awkward_name",
]
WARNINGS: tuple[ProblemKind, ...] = get_args(ProblemKind)[-3:]
"""The kinds that vidom itself can handle."""

_SHOWN = 5


@dataclass(frozen=True)
class Problem:
    """One problem with the sample `id` in line `line` of the list."""

    line: int
    id: str
    kind: ProblemKind
    text: str


@dataclass(frozen=True)
class AuditJob:
    """One sample to be checked; `naming` is that of its frames if it is a folder."""

    line: int
    annotation: Annotation
    data_root: Path
    naming: FrameNaming = FrameNaming()
    min_frames: int = 1


def check_sample(job: AuditJob) -> tuple[Problem, ...]:
    """Return all problems of the sample; every frame is decoded."""
    check = _video_problems if job.annotation.total_frames is None else _folder_problems
    found = (*_name_problems(job), *check(job, job.data_root / job.annotation.path))
    return tuple(Problem(job.line, job.annotation.id, kind, text) for kind, text in found)


Found = Iterator[tuple[ProblemKind, str]]


def _name_problems(job: AuditJob) -> Found:
    path = PurePosixPath(job.annotation.path)
    if len(job.annotation.path.split()) > 1:
        yield "awkward_name", "a space in the name, which mmaction2's lists do not support"
    if "." in (path.stem if job.annotation.total_frames is None else path.name):
        yield "awkward_name", "a dot in the name, at which ais_bench truncates the names of its outputs"


def _video_problems(job: AuditJob, path: Path) -> Found:
    exists = path.is_file()
    if exists and not path.stat().st_size:
        yield "zero_length", f"{path} is empty"
        return
    count = 0
    try:
        for _ in VideoFile(path).frames():
            count += 1
    except BadDataError as error:
        yield "unreadable" if exists else "missing", str(error)
        return
    yield from _length_problems(count, job)


def _folder_problems(job: AuditJob, folder: Path) -> Found:
    offset, total = job.annotation.offset, job.annotation.total_frames or 0
    try:
        first = job.naming.first_in(folder, offset + total)
        if not folder.is_dir():
            next(RawFrames(folder, total).read([0]))
    except BadDataError as error:
        yield "unreadable" if folder.is_dir() else "missing", str(error)
        return
    yield from _number_problems(job, frame_numbers(folder, template=job.naming.template), first)
    yield from _frame_problems(RawFrames(folder, total, replace(job.naming, first=first), offset))


def _number_problems(job: AuditJob, numbers: FrameNumbers, first: int) -> Found:
    annotation = job.annotation
    last = first + annotation.offset + (annotation.total_frames or 0) - 1
    if numbers.frames and (numbers.missing or numbers.first != first):
        missing = (
            f"missing in between: {', '.join(map(str, numbers.missing))}"
            if numbers.missing
            else "none missing"
        )
        yield "gap", f"frames {numbers.first} to {numbers.last}, {missing}; the first one should be {first}"
    # A part of a folder, whose id includes its offset, may end before the folder does.
    if last > numbers.last:
        yield "fewer_frames", f"the list declares frames up to {last}, the last one is {numbers.last}"
    elif last < numbers.last and annotation.id == annotation.path:
        yield (
            "surplus_frames",
            f"the list declares frames up to {last}, but there are frames up to {numbers.last}",
        )
    if not numbers.frames and numbers.other_entries:
        name = job.naming.template.format(first)
        yield (
            "zero_length",
            f"no frame is named {name}, but there are {numbers.other_entries} other files; if frames are named "
            "differently, set the recipe's dataset.frame_template",
        )
        return
    yield from _length_problems(min(numbers.frames, annotation.total_frames or 0), job)


def _length_problems(count: int, job: AuditJob) -> Found:
    if not count:
        yield "zero_length", "no frames"
    elif count < job.min_frames:
        yield "too_short", f"{count} frames, fewer than {job.min_frames}"


def _frame_problems(source: RawFrames) -> Found:
    """Yield which existing frames are empty, damaged, or differ in size from the first."""
    empty: list[str] = []
    damaged: list[str] = []
    uneven: list[str] = []
    size: tuple[int, ...] | None = None
    for position in range(source.total_frames):
        path = source.naming.path(source.folder, source.first_index + position)
        if not path.exists():
            continue
        if path.is_file() and not path.stat().st_size:
            empty.append(path.name)
            continue
        try:
            (image,) = source.read([position])
        except BadDataError:
            damaged.append(path.name)
            continue
        size = size or image.shape
        if image.shape != size:
            uneven.append(path.name)
    if empty:
        yield "zero_length", f"empty frame files: {_some(empty)}"
    if damaged:
        yield "unreadable", f"frames that are not complete JPEG or PNG files: {_some(damaged)}"
    if uneven:
        yield "uneven_size", f"frames that differ in size from the first: {_some(uneven)}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
