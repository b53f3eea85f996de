"""Output files of one run, read many at a time: they are alike, so one look at their form serves all of them.

Reading 24,777 outputs one by one is mostly the parsing of the same header, or of the same layout of digits, over
and over. Here files of one length are laid end to end and become numbers in a few operations on all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidom.formats.engine_outputs import read_output
from vidom.formats.npy import parse_header

__all__ = ["read_outputs"]

Array = npt.NDArray[Any]

# Larger files gain nothing, and a group of them would fill the memory.
_MAX_BYTES = 1 << 16
# `%f` of a probability and the space after it.
_CELL = b"0.000000 "
_LARGEST_DIGIT = np.array([9, 0, 9, 9, 9, 9, 9, 9, 0], np.uint8)
_PLACE = np.array([1e6, 0, 1e5, 1e4, 1e3, 1e2, 1e1, 1, 0], np.float32)


def read_outputs(paths: Sequence[Path | str], *, classes: int | None = None) -> Iterator[Array]:
    """Yield what `read_output` returns for each of the paths, in their order; raises what it raises.

    Memory is some ten times the files' bytes, so give some hundred of a long list at once. Whatever is not alike is
    read one by one.
    """
    together = _together(paths, classes)
    if together is None:
        yield from (read_output(path, classes=classes) for path in paths)
    else:
        yield from together


def _together(paths: Sequence[Path | str], classes: int | None) -> Array | None:
    """Return the values, shape (files, rows, classes), of files that are alike, else None."""
    suffixes = {os.path.splitext(path)[1].lower() for path in paths}  # noqa: PTH122 - a fifth of Path's time
    rows_of = _ROWS_OF.get(suffixes.pop()) if len(suffixes) == 1 else None
    blobs = None if rows_of is None else _blobs(paths)
    return None if rows_of is None or blobs is None else rows_of(blobs, classes)


def _blobs(paths: Sequence[Path | str]) -> list[bytes] | None:
    """Return the bytes of files that are all of one length, neither empty nor large, else None."""
    blobs: list[bytes] = []
    for path in paths:
        try:
            # A plain read: `open` looks at each file three times before it gives a byte. A pipe would block it.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError):
            return None
        try:
            blobs.append(os.read(descriptor, _MAX_BYTES + 1))
        except OSError:
            return None
        finally:
            os.close(descriptor)
        if not 0 < len(blobs[-1]) == len(blobs[0]) <= _MAX_BYTES:
            return None
    return blobs


def _bin_rows(blobs: Sequence[bytes], classes: int | None) -> Array | None:
    if not classes or len(blobs[0]) % (4 * classes):
        return None
    return np.frombuffer(b"".join(blobs), "<f4").reshape(len(blobs), -1, classes)


def _npy_rows(blobs: Sequence[bytes], _classes: int | None) -> Array | None:
    """Return the arrays of files whose headers are those of the first, byte by byte."""
    try:
        first = parse_header(blobs[0])
    except ValueError:
        return None
    start = blobs[0][: first.offset]
    complete = first.nbytes == len(blobs[0]) - first.offset and first.nbytes and first.shape
    if not complete or first.fortran_order or any(not blob.startswith(start) for blob in blobs):
        return None
    values = np.frombuffer(b"".join(blob[first.offset :] for blob in blobs), first.dtype)
    return values.reshape(len(blobs), -1, first.shape[-1])


def _txt_rows(blobs: Sequence[bytes], _classes: int | None) -> Array | None:
    """Return the numbers of texts that hold probabilities only, as `%f` writes them, nine bytes each.

    The seven digits make an integer that float32 holds exactly, whatever the order of the sum; its quotient by
    10**6 is then the float64 that is nearest to the decimal, as `float` gives it.
    """
    columns, rest = divmod(blobs[0].find(b"\n"), len(_CELL))
    line = columns * len(_CELL) + 1
    if columns < 1 or rest or len(blobs[0]) % line:
        return None
    layout = np.frombuffer(_CELL * columns + b"\n", np.uint8)
    largest = np.append(np.tile(_LARGEST_DIGIT, columns), np.uint8(0))
    # Below the layout's byte, unsigned numbers wrap round to large ones.
    digits = np.frombuffer(b"".join(blobs), np.uint8).reshape(-1, line) - layout
    if (digits > largest).any():
        return None
    millionths = digits[:, :-1].astype(np.float32).reshape(-1, len(_CELL)) @ _PLACE
    return (millionths.astype(np.float64) / 1e6).reshape(len(blobs), -1, columns)


_ROWS_OF = {".bin": _bin_rows, ".npy": _npy_rows, ".txt": _txt_rows}
