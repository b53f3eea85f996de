"""Writers of MindSpore's files for the tests, from the formats' field numbers."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

import numpy as np

MINDIR_TYPES = {"float32": 1, "int32": 6, "float16": 10, "float64": 11}


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def entry(tag: str, kind: str, dims: Iterable[int], content: bytes) -> bytes:
    """Return one Value of a checkpoint."""
    tensor = b"".join(field(1, size) for size in dims) + field(2, kind) + field(3, content)
    return field(1, field(1, tag) + field(2, tensor))


def checkpoint(arrays: Mapping[str, np.ndarray], *, crc: bool = False) -> bytes:
    """Return a .ckpt of these float arrays."""
    content = b"".join(
        entry(name, array.dtype.name.capitalize(), array.shape, array.tobytes())
        for name, array in arrays.items()
    )
    return with_crc(content) if crc else content


def with_crc(content: bytes) -> bytes:
    return content + b"crc_num" + zlib.crc32(content).to_bytes(10, "big")


def parameter(name: str, array: np.ndarray, *, name_field: int = 7) -> bytes:
    """Return one parameter of a .mindir's graph."""
    dims = b"".join(field(1, size) for size in array.shape)
    kind = field(2, MINDIR_TYPES[array.dtype.name])
    return dims + kind + field(name_field, f"1_2_construct:{name}") + field(9, array.tobytes())


def mindir(parameters: Iterable[bytes], *, little_endian: int = 1) -> bytes:
    """Return a .mindir with these parameters and some of the surrounding fields."""
    nodes = field(1, field(1, "x") + field(2, "y") + field(4, "REF::Conv2D"))
    graph = nodes + field(2, "construct") + b"".join(field(3, content) for content in parameters) + nodes
    head = field(1, "0.1.0") + field(2, "MindSpore") + field(5, "1.1.0")
    return head + field(7, graph) + field(8, field(2, "inner")) + field(10, little_endian)
