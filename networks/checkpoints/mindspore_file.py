"""Common parts of the readers of MindSpore's files: opening, errors, and the encoding of tensors."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from networks.checkpoints.opening import checkpoint_file, unreadable
from networks.checkpoints.protobuf_wire import Value
from vidom.errors import BadDataError

__all__ = ["MAX_DIMS", "Array", "array_of", "open_mapped", "sizes_in"]

Array = NDArray[Any]

MAX_DIMS = 8
_CIPHERS = {0x7F3A5ED8: "AES-GCM", 0x7F3A5ED9: "AES-CBC", 0x7F3A5EDA: "SM4-CBC"}
# MindSpore 1.x writes `Uint8`, 2.x `UInt8`, hence the lower case.
_ELEMENT_TYPES = {
    **{name: name for name in ("int8", "uint8", "float16", "float32", "float64")},
    **{name: name for name in ("int16", "uint16", "int32", "uint32", "int64", "uint64")},
    **{"bfloat16": "uint16", "bool": "uint8"},
}


def open_mapped(path: Path | str) -> memoryview:
    """Return a memory map of the file at `path`.

    Raises UsageError when there is no such file, BadDataError when it is empty or encrypted.
    """
    path = checkpoint_file(path)
    if not path.stat().st_size:
        raise unreadable(path, "it is empty")
    with path.open("rb") as stream:
        # The mapping is released with its last view; closing it earlier would invalidate the views.
        view = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    cipher = _CIPHERS.get(int.from_bytes(view[:4], "little"))
    if cipher:
        raise BadDataError(
            f"The checkpoint {path} is encrypted with {cipher}, which is not supported. Load it in "
            "MindSpore with its key (load_checkpoint, dec_key and dec_mode) and save it again without enc_key."
        )
    return view


def array_of(kind: str, dims: tuple[int, ...], content: bytes | memoryview) -> Array:
    """Return a copy of the tensor of `dims` in these little-endian bytes.

    `kind` is MindSpore's name of the element type, in either spelling. bfloat16, which numpy does not have, is widened
    to float32, exactly. dims of (0,) with one element are a number, as MindSpore 1.x writes it; "str" is a text in
    UTF-32.

    Raises ValueError for an unknown type, an empty tensor and dims that do not fit the bytes.
    """
    name = kind.lower()
    if name == "str":
        return np.array(bytes(content).decode("utf-32-le"))
    if name not in _ELEMENT_TYPES:
        raise ValueError(f"the element type {kind[:40]!r}; known are {', '.join(_ELEMENT_TYPES)}")
    element = np.dtype(_ELEMENT_TYPES[name]).newbyteorder("<")
    shape = () if dims == (0,) and len(content) == element.itemsize else dims
    elements = math.prod(shape)
    if min(shape, default=1) < 1 or elements * element.itemsize != len(content):
        found = f"{list(dims)} of {kind} in {len(content)} bytes"
        raise ValueError(f"a tensor whose shape does not fit its bytes: {found}")
    raw = np.frombuffer(content, element).reshape(shape)
    if name == "bfloat16":
        return (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return raw != 0 if name == "bool" else raw.copy()


def sizes_in(found: Mapping[int, Sequence[Value]], number: int) -> tuple[int, ...]:
    """Return the repeated field of a tensor's dims; raises ValueError when they are not numbers or too many."""
    sizes = tuple(value for value in found.get(number, ()) if isinstance(value, int))
    if len(sizes) != len(found.get(number, ())) or len(sizes) > MAX_DIMS:
        raise ValueError(f"a tensor whose dims are not at most {MAX_DIMS} numbers")
    return sizes
