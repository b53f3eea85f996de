"""Read the files of `torch.save` without executing anything in them.

Two layouts exist (`torch/serialization.py`). Since torch 1.6 it is a zip archive of uncompressed members:
`NAME/data.pkl` describes the object, `NAME/data/KEY` holds each storage. Before, it was four pickles (magic
number, protocol, byte order, the object), a pickled list of storage keys and, in that list's order, each
storage as an int64 count of elements and the raw elements.
"""

from __future__ import annotations

import io
import mmap
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from networks.checkpoints.opening import checkpoint_file, unreadable
from networks.checkpoints.pickles.inert_pickle import Global, Pickled, Stored, read_pickle
from networks.checkpoints.pickles.tensor_record import element_type, tensor_record
from vidom.errors import BadDataError
from vidom.wording import shown, some

__all__ = ["TorchFile", "read_torch_file"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LOCAL_HEADER = 30


@dataclass(frozen=True)
class _Place:
    """The position of a storage's bytes in the file, and their CRC-32 where the file has it."""

    offset: int
    length: int
    crc32: int | None = None


@dataclass(frozen=True)
class TorchFile:
    """The contents of a file, in which a tensor is an inert Call, and the positions of its storages."""

    path: Path
    layout: str
    content: Any
    places: Mapping[str, _Place]

    def tensors(self, objects: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the tensors described by `objects`, a part of `content`, under the same names.

        Only their storages are read, each once, so that memory is limited by the size of the file. Raises BadDataError
        when an entry is not a tensor, or its storage is missing, damaged or too short.
        """
        source = f"The checkpoint {self.path}"
        records = {name: tensor_record(value, name=name, source=source) for name, value in objects.items()}
        keys = {record.storage for record in records.values()}
        if missing := keys - self.places.keys():
            raise BadDataError(
                f"{source} has no storages {shown(some(sorted(missing)))} for its tensors. Download it again."
            )
        if sum(self.places[key].length for key in keys) > self.path.stat().st_size:
            raise BadDataError(f"{source} has overlapping storages: together they are larger than the file.")
        with self.path.open("rb") as stream:
            storages = {key: _read(stream, self.places[key], path=self.path) for key in keys}
        return {
            name: record.view_of(storages[record.storage], source=f"{source}, tensor {shown(name)}")
            for name, record in records.items()
        }


def read_torch_file(path: Path | str) -> TorchFile:
    """Return the contents of the file at `path`, in either layout, without reading storages.

    Raises UsageError when there is no file, and BadDataError when it is of neither layout, truncated, compressed,
    written on a big-endian machine, or refers to code.
    """
    path = checkpoint_file(path)
    with path.open("rb") as stream:
        head = stream.read(4)
        if head == b"PK\3\4":
            return _read_zip(path, stream)
        if head[:1] == b"\x80":
            return _read_legacy(path, stream)
    raise unreadable(path, f"it is not a file of torch.save, but starts with {head!r}")


def _read_zip(path: Path, stream: IO[bytes]) -> TorchFile:
    members = {info.filename: _member(path, stream, info) for info in _directory(path, stream)}
    descriptions = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(descriptions) != 1:
        raise unreadable(
            path, f"the zip archive has {len(descriptions)} members */data.pkl where torch.save writes one"
        )
    folder = descriptions[0].removesuffix("data.pkl")
    order = members.get(f"{folder}byteorder")
    if order and bytes(_read(stream, order, path=path)) != b"little":
        raise unreadable(path, "its numbers are big-endian, which is not supported")
    described = io.BytesIO(_read(stream, members[descriptions[0]], path=path))
    content = read_pickle(described, source=f"The checkpoint {path}").content
    prefix = f"{folder}data/"
    places = {name.removeprefix(prefix): place for name, place in members.items() if name.startswith(prefix)}
    return TorchFile(path=path, layout="zip archive", content=content, places=places)


def _directory(path: Path, stream: IO[bytes]) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(stream) as archive:
            return archive.infolist()
    # zipfile seeks to wherever the archive says, hence OSError and OverflowError.
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        ValueError,
        struct.error,
        OSError,
        OverflowError,
    ) as error:
        raise unreadable(
            path, f"it starts like a zip archive, but its directory cannot be read ({shown(error)})"
        ) from None


def _member(path: Path, stream: IO[bytes], info: zipfile.ZipInfo) -> _Place:
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise unreadable(
            path, f"its member {shown(info.filename)} is compressed, which torch.save never does"
        )
    # The offset is that of a zip64 field, less what zipfile regards as a prefix of the archive.
    if not 0 <= info.header_offset <= os.fstat(stream.fileno()).st_size - _LOCAL_HEADER:
        raise unreadable(path, f"its member {shown(info.filename)} is outside the file")
    stream.seek(info.header_offset)
    header = stream.read(_LOCAL_HEADER)
    # The lengths in the local header are used: torch adds padding there to align storages.
    name_length, extra_length = struct.unpack("<HH", header[26:])
    offset = info.header_offset + _LOCAL_HEADER + name_length + extra_length
    return _Place(offset=offset, length=info.file_size, crc32=info.CRC)


def _read_legacy(path: Path, stream: IO[bytes]) -> TorchFile:
    source = f"The checkpoint {path}"
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        if read_pickle(view, source=source).content != _LEGACY_MAGIC:
            raise unreadable(path, "it is a pickle, but not one of torch.save")
        read_pickle(view, source=source)
        system = read_pickle(view, source=source).content
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise unreadable(path, "its numbers are not little-endian")
        described = read_pickle(view, source=source)
        keys = read_pickle(view, source=source).content
        places = _legacy_places(path, view, keys, sizes=_element_sizes(described, source=source))
    layout = "single stream, as before torch 1.6"
    return TorchFile(path=path, layout=layout, content=described.content, places=places)


def _element_sizes(described: Pickled, *, source: str) -> dict[str, int]:
    sizes = {}
    for stored in described.stored:
        match stored:
            case Stored(identifier=("storage", Global(name=kind), str(key), *_)):
                sizes[key] = element_type(kind, source=source).itemsize
    return sizes


def _legacy_places(path: Path, view: mmap.mmap, keys: Any, *, sizes: Mapping[str, int]) -> dict[str, _Place]:
    if not isinstance(keys, list):
        raise unreadable(path, "its list of storages is damaged")
    places: dict[str, _Place] = {}
    for key in keys:
        count = view.read(8)
        if len(count) < 8 or not isinstance(key, str) or key not in sizes:
            raise unreadable(path, f"it ends before its storage number {len(places)}")
        length = struct.unpack("<q", count)[0] * sizes[key]
        places[key] = _Place(offset=view.tell(), length=length)
        if not 0 <= length <= len(view) - view.tell():
            raise unreadable(
                path, f"its storage {shown(key)} of {length} bytes does not fit into the file of {len(view)}"
            )
        view.seek(length, os.SEEK_CUR)
    return places


def _read(stream: IO[bytes], place: _Place, *, path: Path) -> bytearray:
    size = os.fstat(stream.fileno()).st_size
    if place.offset + place.length > size:
        raise unreadable(
            path, f"a member of {place.length} bytes at {place.offset} does not fit into the file of {size}"
        )
    stream.seek(place.offset)
    content = bytearray(stream.read(place.length))
    if place.crc32 is not None and zlib.crc32(content) != place.crc32:
        raise unreadable(path, f"the bytes at {place.offset} do not match the CRC-32 of the archive")
    return content
