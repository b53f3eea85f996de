"""Read the .pdiparams files of models that Paddle 2 exported for inference.

`paddle.jit.save` (`python/paddle/jit/api.py`) writes NAME.pdmodel, NAME.pdiparams and NAME.pdiparams.info. The
second holds the tensors one after the other, in the order of their internal names and without any names, each
as `SerializeToStream` of `paddle/fluid/framework/lod_tensor.cc` and `TensorToStream` of `tensor_util.cc` write it:

    uint32 version = 0
    uint64 levels of detail = 0, for weights
    uint32 version = 0
    int32 size of the description
    description: protobuf TensorDesc { 1: element type, 2: dimension, repeated } (`framework.proto`)
    the elements, row by row

all little-endian. The third is a pickle that maps each internal name to its key in the state dict. Paddle 3 writes a
.json instead of the first and the third, without those keys.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from networks.checkpoints.checkpoint import Checkpoint
from networks.checkpoints.opening import checkpoint_file
from networks.checkpoints.pdparams import is_weight_name, paddle_tensor
from networks.checkpoints.pickles.inert_pickle import read_pickle
from networks.checkpoints.protobuf_wire import grouped, number_in
from vidom.errors import BadDataError, UsageError
from vidom.files import sha256_file

__all__ = ["read_pdiparams"]

# VarType.Type of framework.proto; bfloat16 (22) is stored as uint16, as in .pdparams files.
_ELEMENT_TYPES = {0: "b1", 1: "i2", 2: "i4", 3: "i8", 4: "f2", 5: "f4", 6: "f8", 20: "u1", 21: "i1", 22: "u2"}
_MAX_DIMENSIONS = 8
_MAX_DESCRIPTION = 128
# The two versions, the levels of detail between them (a weight has none) and the size of the description.
_HEAD = struct.Struct("<IQIi")


def read_pdiparams(path: Path | str) -> Checkpoint:
    """Return the weights in the .pdiparams file at `path` under Paddle's keys, in Paddle's layouts.

    The keys are those of the file NAME.pdiparams.info next to it. float16 and bfloat16 are returned as float32.

    Raises UsageError when one of the files is missing, BadDataError when one is damaged or they do not match.
    """
    path = checkpoint_file(path)
    source = f"The checkpoint {path}"
    keys = _keys(path)
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
            arrays = list(_arrays(view, count=len(keys)))
    except (ValueError, struct.error) as error:
        raise BadDataError(
            f"{source} does not hold the {len(keys)} tensors that {path.name}.info lists ({str(error)[:200]}). It is "
            "damaged or of a different export; use both files of the same export, or the .pdparams of the model."
        ) from None
    return Checkpoint(
        path=path,
        sha256=sha256_file(path),
        framework="paddle",
        layout=f"consecutive tensors, named by {path.name}.info",
        meta={},
        state_dict={key: paddle_tensor(array) for key, array in zip(keys, arrays, strict=True)},
    )


def _keys(path: Path) -> list[str]:
    """Return the key of each tensor, in the order of the tensors."""
    table = path.with_name(f"{path.name}.info")
    if not table.is_file():
        raise UsageError(
            f"The checkpoint {path} holds tensors without names, and {table.name}, which Paddle 2 writes next to it, "
            "is missing. Copy it there, or use the .pdparams file of the model; Paddle 3 writes no such table."
        )
    if not table.stat().st_size:
        raise BadDataError(f"The table {table} is empty. Use the one from the same export as {path.name}.")
    with table.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        content: Any = read_pickle(view, source=f"The table {table}", names=()).content
    entries = content if isinstance(content, dict) else {}
    keys = [_key(entries[name]) for name in sorted(name for name in entries if isinstance(name, str))]
    if not keys or None in keys or len(set(keys)) != len(keys):
        raise BadDataError(
            f"The table {table} does not map each tensor to a unique key (`structured_name`), as Paddle 2 writes it. "
            f"Use the one from the same export as {path.name}, or the .pdparams file of the model."
        )
    return [key for key in keys if key is not None]


def _key(entry: Any) -> str | None:
    match entry:
        case {"structured_name": str(key)} if is_weight_name(key):
            return key
    return None


def _arrays(view: mmap.mmap, *, count: int) -> Iterator[NDArray[Any]]:
    for _ in range(count):
        start = view.tell()
        *zeros, length = _HEAD.unpack(view.read(_HEAD.size))
        if any(zeros) or not 0 <= length <= _MAX_DESCRIPTION:
            raise ValueError(f"no weight of version 0 at byte {start}")
        dtype, shape = _description(view.read(length))
        size, left = dtype.itemsize * math.prod(shape), len(view) - view.tell()
        if size > left:
            raise ValueError(f"the tensor at byte {start} has {size!s:.20} bytes, but {left} are left")
        yield np.frombuffer(view.read(size), dtype).reshape(shape).copy()
    if view.tell() < len(view):
        raise ValueError(f"{len(view) - view.tell()} bytes after the last of {count} tensors")


def _description(content: bytes) -> tuple[np.dtype[Any], list[int]]:
    found = grouped(memoryview(content), limit=_MAX_DIMENSIONS + 1)
    number = number_in(found, 1)
    shape = [size for size in found.get(2, ()) if isinstance(size, int)]
    if number not in _ELEMENT_TYPES or len(shape) != len(found.get(2, ())):
        raise ValueError(f"a tensor of the unknown type {number}")
    return np.dtype(_ELEMENT_TYPES[number]).newbyteorder("<"), shape
