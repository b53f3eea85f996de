"""NumPy's `.npy` files, read without evaluating their header as Python, which NumPy's own reader does.

    \\x93NUMPY, version (2 bytes), length of the header (2 bytes; 4 from version 2 on), header, array
    {'descr': '<f4', 'fortran_order': False, 'shape': (1, 174), }      the header, spaces, a line feed

Of ten damaged headers, one ends `numpy.load` with an error of Python's tokenizer. Source: numpy.lib.format.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidom.bounded_reading import read_bytes
from vidom.errors import BadDataError

__all__ = ["MAX_HEADER_BYTES", "NpyHeader", "decode_npy", "parse_header", "read_npy", "read_npy_header"]

Array = npt.NDArray[Any]

# What NumPy accepts too.
MAX_HEADER_BYTES = 10_000
_MAGIC = re.compile(rb"\x93NUMPY(?:\x01\x00(..)|[\x02\x03]\x00(....))", re.DOTALL)
# In the order that NumPy writes; Python 2 wrote 3L.
_HEADER = re.compile(
    r"\{'descr': *'([<>|=]?[biufcSUV][0-9]{0,9})', *'fortran_order': *(False|True), *"
    r"'shape': *\(((?:[0-9]{1,18}L?, *){0,31}(?:[0-9]{1,18}L?)?)\),? *\}[ \n]*"
)


@dataclass(frozen=True)
class NpyHeader:
    """What a file states about its array, whose elements begin at the byte `offset`."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran_order: bool
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def parse_header(start: bytes) -> NpyHeader:
    """Return the header of a file that begins with `start`, its first `MAX_HEADER_BYTES` or all of its bytes.

    Raises ValueError for anything but an array of numbers, texts or bytes.
    """
    magic = _MAGIC.match(start)
    if magic is None:
        raise ValueError("it does not begin like a NumPy file of version 1, 2 or 3")
    end = magic.end() + int.from_bytes(magic[1] or magic[2], "little")
    text = start[magic.end() : end].decode("latin-1")
    found = _HEADER.fullmatch(text) if end <= min(len(start), MAX_HEADER_BYTES) else None
    if found is None:
        raise ValueError("its header is damaged, or is not that of an array of numbers")
    shape = tuple(int(size) for size in found[3].replace("L", "").replace(",", " ").split())
    if found[3] and "," not in found[3]:
        raise ValueError("its shape is a number instead of a tuple")
    try:
        return NpyHeader(np.dtype(found[1]), shape, found[2] == "True", end)
    except TypeError:
        raise ValueError(f"NumPy has no type {found[1]}") from None


def decode_npy(content: bytes) -> Array:
    """Return the array, read-only, that `content` holds. Raises ValueError unless it is one complete array."""
    header = _complete(content, len(content))
    # `frombuffer` refuses empty buffers.
    flat = (
        np.frombuffer(content, header.dtype, offset=header.offset)
        if header.nbytes
        else np.empty(0, header.dtype)
    )
    return flat.reshape(header.shape, order="F" if header.fortran_order else "C")


def read_npy(path: Path | str, *, what: str, max_bytes: int) -> Array:
    """Return the array, read-only, of at most `max_bytes` in a file.

    Raises BadDataError, naming `what` the file should have been, as `read_bytes` does and unless it is one complete
    array.
    """
    content = read_bytes(path, what=what, max_bytes=MAX_HEADER_BYTES + max_bytes)
    try:
        return decode_npy(content)
    except ValueError as error:
        raise _not_readable(path, what, error) from None


def read_npy_header(path: Path | str, *, what: str) -> NpyHeader:
    """Return the header of a file whose array is complete. Raises BadDataError as `read_npy` does."""
    path = Path(path)
    if not path.is_file():
        raise BadDataError(f"The {what} {path} does not exist or is not a regular file.")
    with path.open("rb") as stream:
        start = stream.read(MAX_HEADER_BYTES)
    try:
        return _complete(start, path.stat().st_size)
    except ValueError as error:
        raise _not_readable(path, what, error) from None


def _complete(start: bytes, size: int) -> NpyHeader:
    header = parse_header(start)
    if size - header.offset != header.nbytes:
        raise ValueError(
            f"its header announces {header.dtype} of {header.shape}, {header.nbytes} bytes, but "
            f"{size - header.offset} follow"
        )
    return header


def _not_readable(path: Path | str, what: str, error: ValueError) -> BadDataError:
    return BadDataError(f"The {what} {path} is not a readable .npy file: {error}. It may be truncated.")
