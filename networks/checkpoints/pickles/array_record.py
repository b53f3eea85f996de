"""Arrays in numpy pickles: element type, shape and bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from networks.checkpoints.pickles.inert_pickle import Call, Global
from vidom.errors import BadDataError
from vidom.wording import shown

__all__ = ["ARRAY_NAMES", "ArrayRecord", "array_record"]

# numpy 2 renamed the package; files with either name are read under either numpy.
_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_REBUILT = {f"{module}._reconstruct" for module in _MODULES}
_SCALARS = {f"{module}.scalar" for module in _MODULES}

ARRAY_NAMES = frozenset({*_REBUILT, *_SCALARS, "numpy.ndarray", "numpy.dtype", "_codecs.encode"})
"""The names in pickled arrays and numpy scalars; `encode` for their bytes in protocol 2."""

_ELEMENT_TYPES = frozenset({"f2", "f4", "f8", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "b1"})
_MAX_DIMENSIONS = 8


@dataclass(frozen=True)
class ArrayRecord:
    """An array of `dtype` and `shape` with the bytes `content`.

    A text has one byte per character, as in pickles of protocol 2.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    by_column: bool
    content: bytes | str

    @property
    def nbytes(self) -> int:
        """The size of the elements."""
        return len(self.content)

    def array(self) -> NDArray[Any]:
        """Return a copy as an array; raises ValueError where a text has a character that is not a byte."""
        content = self.content.encode("latin1") if isinstance(self.content, str) else self.content
        flat = np.frombuffer(content, self.dtype)
        return np.array(flat.reshape(self.shape, order="F" if self.by_column else "C"), order="C")


def array_record(value: Any, *, name: str, source: str) -> ArrayRecord:
    """Return the record of the array or scalar that the inert `value` describes.

    Raises BadDataError, with `source` and the entry's `name`, for any other value, for elements that are not
    little-endian numbers (objects and texts are rejected by type), and for bytes that do not fit the shape.
    """
    match value:
        case Call(
            name=called,
            arguments=(Global("numpy.ndarray"), *_),
            state=(_, tuple(shape), kind, by_column, raw),
        ) if called in _REBUILT:
            pass
        case Call(name=called, arguments=(kind, raw)) if called in _SCALARS:
            shape, by_column = (), False
        case _:
            found = shown(value.name) if isinstance(value, Call | Global) else type(value).__name__
            raise BadDataError(f"{source}: the entry {name!r} should be an array, but is {found}.")
    dtype, content = _dtype(kind, name=name, source=source), _content(raw)
    # In Python True is an int; in a shape it is invalid.
    sizes = [size for size in shape if type(size) is int and 0 <= size < 1 << 62]
    fits = (
        len(sizes) == len(shape) <= _MAX_DIMENSIONS
        and content is not None
        and math.prod(sizes) * dtype.itemsize == len(content)
    )
    if content is None or not fits:
        raise BadDataError(
            f"{source}: the bytes of the array {name!r} of {dtype} and {len(shape)} dimensions do not fit its shape. "
            "The file is damaged; download it again and compare its sha256 with the published one."
        )
    return ArrayRecord(dtype=dtype, shape=tuple(sizes), by_column=bool(by_column), content=content)


def _dtype(kind: Any, *, name: str, source: str) -> np.dtype[Any]:
    match kind:
        case Call(name="numpy.dtype", arguments=(str(code), *_), state=(_, "<" | "|" | "=", *_)) if (
            code in _ELEMENT_TYPES
        ):
            return np.dtype(code).newbyteorder("<")
        case Call(name="numpy.dtype", arguments=(str(code), *_)):
            found = f"of the type {code[:20]!r}"
        case _:
            found = "of an unknown type"
    raise BadDataError(
        f"{source}: the elements of the array {name!r} are {found}; little-endian numbers are expected "
        f"({', '.join(sorted(_ELEMENT_TYPES))})."
    )


def _content(raw: Any) -> bytes | str | None:
    match raw:
        case bytes() | str():
            return raw
        case bytearray():
            return bytes(raw)
        case Call(name="_codecs.encode", arguments=(str(text), "latin1" | "latin-1")):
            return text
    return None
