"""Unpack the videos of a multi-part archive into one folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from preprocess.datasets.tar_stream import TarMember, tar_members
from vidom.bounded_reading import read_json
from vidom.errors import BadDataError, UnavailableError
from vidom.files import atomic_path, free_bytes, human_bytes, write_json
from vidom.progress import progress

__all__ = ["archive_parts", "unpack_videos"]

_log = logging.getLogger(__name__)

_MAX_VIDEO = 1 << 28
_RECORD = "unpacked.json"


def archive_parts(folder: Path, name: str) -> tuple[Path, ...]:
    """Return the files NAME-00, NAME-01... in `folder`, in order, if there are any.

    Raises BadDataError if a number before the last one is missing.
    """
    parts = sorted(path for path in folder.glob(f"{name}-[0-9][0-9]") if path.is_file())
    numbers = [int(path.name[-2:]) for path in parts]
    if numbers != list(range(len(parts))):
        missing = sorted(set(range(max(numbers))) - set(numbers))
        raise BadDataError(
            f"Of the archive {folder / name}-?? the part(s) {', '.join(f'{number:02}' for number in missing)} are "
            "missing. Download them; the parts form one archive and cannot be read separately."
        )
    return tuple(parts)


def unpack_videos(parts: Sequence[Path], folder: Path, *, names: set[str], suffix: str) -> None:
    """Write the archive's videos whose names without `suffix` are in `names` to `folder`, without subfolders.

    An interrupted run resumes: videos of the right size are not written again. Other members are skipped. Raises
    UnavailableError if the disk is too small, BadDataError as `tar_members` does and for a video above 256 MiB.
    """
    record = {"parts": {part.name: part.stat().st_size for part in parts}, "wanted": len(names)}
    if (folder / _RECORD).exists() and read_json(folder / _RECORD, what="record") == record:
        return
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(part.stat().st_size for part in parts)
    _check_space(folder, total, suffix)
    waiting = set(names)
    with progress(total=total, unit="B", label="unpack") as bar:
        for member in tar_members(parts, on_bytes=bar.update):
            name = PurePosixPath(member.name)
            if name.suffix == suffix and name.stem in waiting:
                waiting.remove(name.stem)
                _write(member, folder / name.name)
            if not waiting:
                break
    _log.info(
        f"{len(names) - len(waiting)} of {len(names)} videos are in the archive and were written to {folder}."
    )
    write_json(folder / _RECORD, record)


def _check_space(folder: Path, total: int, suffix: str) -> None:
    # Videos are compressed already: the archive is about as large as its content.
    with os.scandir(folder) as entries:
        present = sum(entry.stat().st_size for entry in entries if entry.name.endswith(suffix))
    free = free_bytes(folder)
    if total - present > free:
        raise UnavailableError(
            f"Unpacking the archive needs {human_bytes(total - present)}, but only {human_bytes(free)} are free on "
            f"the disk of {folder}. Use a larger disk."
        )


def _write(member: TarMember, path: Path) -> None:
    if member.size > _MAX_VIDEO:
        raise BadDataError(
            f"The video {member.name!r} of the archive has {member.size} bytes; the maximum is {_MAX_VIDEO}."
        )
    if path.is_file() and path.stat().st_size == member.size:
        return
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        for chunk in member.chunks():
            stream.write(chunk)
