"""Read and write MindSpore's `.ckpt` files byte by byte, without MindSpore and without a protobuf library.

    Checkpoint   { repeated Value value = 1; }
    Value        { string tag = 1; TensorProto tensor = 2; MapTensorProto maptensor = 3; }
    TensorProto  { repeated int64 dims = 1; string tensor_type = 2; bytes tensor_content = 3; }

(`mindspore/ccsrc/utils/checkpoint.proto`; writer in `mindspore/train/serialization.py`.) A tensor above 512 MiB is
several consecutive Values, all with the dims of the complete tensor. A file saved with `crc_check` ends in "crc_num"
and ten bytes, big-endian, of the CRC-32 of everything before.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from networks.checkpoints.mindspore_file import MAX_DIMS, Array, array_of, open_mapped, sizes_in
from networks.checkpoints.opening import unreadable
from networks.checkpoints.protobuf_wire import encoded, fields, grouped, text_in, view_in
from vidom.files import atomic_path

__all__ = ["read_ckpt", "write_ckpt"]

# The training checkpoint of StNet has 489; the limit bounds the time for a hostile file.
_MAX_ENTRIES = 20_000
_SLICE_BYTES = 512 << 20
_TRAILER = b"crc_num"
_TRAILER_BYTES = len(_TRAILER) + 10


@dataclass(frozen=True, eq=False)
class _Entry:
    """One Value of the file: a tensor, or one slice of it."""

    tag: str
    dims: tuple[int, ...]
    kind: str
    content: memoryview

    def continues(self, other: _Entry) -> bool:
        """Return whether this may be the slice after `other`."""
        return (self.tag, self.dims, self.kind) == (other.tag, other.dims, other.kind)


def read_ckpt(path: Path | str) -> tuple[dict[str, Array], str]:
    """Return every entry of the checkpoint at `path` under its name, in the file's order, slices joined,
    and the layout as a text.

    Numbers of one element are 0-d arrays, texts 0-d arrays of str, bfloat16 is widened to float32. The entries of an
    optimizer are included. Memory is that of the tensors.

    Raises UsageError when there is no file; BadDataError when it is encrypted, does not match its CRC, is truncated or
    malformed, has more than 20,000 entries, a tensor twice or a map tensor.
    """
    view = open_mapped(path)
    checked = _without_trailer(view, path)
    arrays: dict[str, Array] = {}
    slices = 0
    try:
        for entry, parts in _joined(checked):
            slices += len(parts)
            if entry.tag in arrays:
                raise ValueError(f"the name {entry.tag[:80]!r} appears twice")
            content = parts[0] if len(parts) == 1 else b"".join(parts)
            arrays[entry.tag] = array_of(entry.kind, entry.dims, content)
    except ValueError as error:
        last = next(reversed(arrays), None)
        where = f"after the entry {last[:80]!r} it holds " if last else "it holds "
        raise unreadable(path, f"{where}{error}") from None
    sliced = f" in {slices} slices" if slices > len(arrays) else ""
    crc = "without CRC-32" if checked is view else "CRC-32 verified"
    return arrays, f"{len(arrays)} entries{sliced} (.ckpt), {crc}"


def write_ckpt(path: Path | str, arrays: Mapping[str, Array]) -> None:
    """Write float or signed integer arrays to `path`, in their order, as MindSpore's save_checkpoint does.

    Its default, a file without CRC-32, is kept: MindSpore 1.x, which StNet was published with, cannot read the trailer.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        for name, array in arrays.items():
            content = array.tobytes()
            kind = array.dtype.name.capitalize().encode()
            head = b"".join(encoded(1, size) for size in array.shape) + encoded(2, kind)
            for start in range(0, len(content), _SLICE_BYTES):
                tensor = head + encoded(3, content[start : start + _SLICE_BYTES])
                stream.write(encoded(1, encoded(1, name.encode()) + encoded(2, tensor)))


def _without_trailer(view: memoryview, path: Path | str) -> memoryview:
    if len(view) < _TRAILER_BYTES or bytes(view[-_TRAILER_BYTES:-10]) != _TRAILER:
        return view
    expected, found = int.from_bytes(view[-10:], "big"), zlib.crc32(view[:-_TRAILER_BYTES])
    if expected != found:
        raise unreadable(path, f"its CRC-32 is {found}, but the file states {expected}")
    return view[:-_TRAILER_BYTES]


def _joined(view: memoryview) -> Iterator[tuple[_Entry, list[memoryview]]]:
    """Yield each tensor's first entry with the contents of all its slices."""
    first: _Entry | None = None
    parts: list[memoryview] = []
    for entry in _entries(view):
        if first is not None and entry.continues(first):
            parts.append(entry.content)
            continue
        if first is not None:
            yield first, parts
        first, parts = entry, [entry.content]
    if first is not None:
        yield first, parts


def _entries(view: memoryview) -> Iterator[_Entry]:
    for number, value in fields(view, limit=_MAX_ENTRIES):
        if number != 1 or isinstance(value, int):
            raise ValueError(f"a field {number} where only entries are expected")
        yield _entry(value)


def _entry(message: memoryview) -> _Entry:
    value = grouped(message, limit=8)
    tag = text_in(value, 1)
    if 3 in value:
        raise ValueError(f"the map tensor {tag[:80]!r}, which is not supported")
    tensor = grouped(view_in(value, 2), limit=4 * MAX_DIMS)
    return _Entry(tag=tag, dims=sizes_in(tensor, 1), kind=text_in(tensor, 2), content=view_in(tensor, 3))
