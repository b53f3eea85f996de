"""Archives from elsewhere, unpacked without trusting their names, sizes and links."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from vidom.errors import BadDataError, UnavailableError
from vidom.files import atomic_path, free_bytes, human_bytes
from vidom.wording import shown

__all__ = ["is_archive", "path_inside", "unpack"]

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")


def is_archive(name: str) -> bool:
    """Return whether the name is that of an archive that `unpack` takes: zip, tar, gzipped tar."""
    return name.lower().endswith(_SUFFIXES)


def path_inside(folder: Path, name: str) -> Path:
    """Return `folder / name`. Raises BadDataError for names that are absolute or lead out of the folder."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or "\0" in name:
        raise BadDataError(
            f"The name {shown(name)!r} leads out of the folder {folder}; nothing was written there."
        )
    return folder.joinpath(*parts)


def unpack(archive: Path, folder: Path) -> int:
    """Unpack the files of the archive into `folder` and return their number; links and devices are left out.

    Existing files of the same names are replaced, each at once. Raises BadDataError for a damaged archive and for names
    that lead out of the folder, UnavailableError where the disk has not the room that the archive announces.
    """
    try:
        members = _zip_members if zipfile.is_zipfile(archive) else _tar_members
        number, left = 0, free_bytes(folder)
        for name, size, stream in members(archive):
            target = path_inside(folder, name)
            left -= size
            if left < 0:
                raise UnavailableError(
                    f"{archive} needs more than the {human_bytes(free_bytes(folder))} that are free below {folder}."
                )
            with stream, atomic_path(target, durable=False) as temporary, temporary.open("wb") as out:
                shutil.copyfileobj(stream, out)
            number += 1
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        ValueError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise BadDataError(f"The archive {archive} is damaged or of an unknown kind: {error}.") from None
    return number


def _zip_members(path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if not member.is_dir() and kind in (0, stat.S_IFREG):
                yield member.filename, member.file_size, archive.open(member)


def _tar_members(path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            if member.isreg() and (stream := archive.extractfile(member)) is not None:
                yield member.name, member.size, stream
        # Python takes a damaged header for the end; a sound archive ends with a block of zeros.
        raw: Any = archive.fileobj
        raw.seek(archive.offset)
        if raw.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it ends before its end mark")
