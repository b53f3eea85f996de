"""Read safetensors files: a length, a JSON header and the bytes of the tensors (github.com/huggingface/safetensors).

uint64 length of the header, little-endian
header: {"NAME": {"dtype": "F32", "shape": [...], "data_offsets": [begin, end]}, ..., "__metadata__": {"KEY": "TEXT"}}
the tensors' bytes, little-endian, row by row; offsets count from their start, without holes and overlaps
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from networks.checkpoints.mindspore_file import MAX_DIMS, Array, array_of, open_mapped
from networks.checkpoints.opening import unreadable
from vidom.bounded_reading import parse_json
from vidom.wording import shown

__all__ = ["is_safetensors", "read_safetensors"]

# A ResNet-101 has some 60 kB and 630 tensors.
_LARGEST_HEADER = 1 << 23
_MAX_TENSORS = 20_000
_KINDS = {
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{"BF16": "bfloat16", "BOOL": "bool"},
}


def is_safetensors(path: Path) -> bool:
    """Return whether the file starts like safetensors, regardless of its name."""
    with path.open("rb") as stream:
        return stream.read(10)[8:] == b'{"'


def read_safetensors(path: Path | str) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the tensors at `path` under their names, in the order of their bytes, and the texts of `__metadata__`.

    bfloat16, which numpy does not have, is widened to float32, exactly.

    Raises UsageError when there is no file; BadDataError when it is damaged, empty, or has tensors of another type.
    """
    view = open_mapped(path)
    try:
        length = int.from_bytes(view[:8], "little")
        if length > min(len(view) - 8, _LARGEST_HEADER):
            raise ValueError(f"its header of {length} bytes does not fit")
        header = parse_json(bytes(view[8 : 8 + length]).decode())
        metadata = header.pop("__metadata__", {}) if isinstance(header, dict) else None
        if not isinstance(metadata, dict) or len(header) > _MAX_TENSORS:
            raise ValueError(f"its header is not that of at most {_MAX_TENSORS} tensors")
        arrays = dict(_arrays(header, view[8 + length :]))
    except ValueError as error:
        raise unreadable(path, f"it starts like safetensors, but {shown(error)}") from None
    return arrays, {key: text for key, text in metadata.items() if isinstance(text, str)}


def _arrays(header: dict[str, Any], content: memoryview) -> Iterator[tuple[str, Array]]:
    places = sorted((_place(name, entry), name) for name, entry in header.items())
    reached = 0
    for (begin, end), name in places:
        if begin != reached or not begin <= end <= len(content):
            raise ValueError(
                f"its tensor {shown(name, 80)} does not begin where another ends, or is outside the file"
            )
        kind, shape = header[name]["dtype"], tuple(header[name]["shape"])
        try:
            yield name, array_of(_KINDS[kind], shape, content[begin:end])
        except ValueError as error:
            raise ValueError(f"its tensor {shown(name, 80)} is {error}") from None
        reached = end
    if reached != len(content):
        raise ValueError(f"{len(content) - reached} bytes follow its last tensor")


def _place(name: str, entry: Any) -> tuple[int, int]:
    match entry:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [begin, end]} if (
            kind in _KINDS
            and len(shape) <= MAX_DIMS
            and all(type(number) is int and 0 <= number < 1 << 62 for number in (*shape, begin, end))
        ):
            return begin, end
    found = entry.get("dtype") if isinstance(entry, dict) else None
    raise ValueError(
        f"its tensor {shown(name, 80)} has no valid dtype, shape and data_offsets (dtype {shown(found, 20)}; known are "
        f"{', '.join(_KINDS)})"
    )
