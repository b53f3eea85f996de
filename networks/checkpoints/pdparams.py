"""Read the .pdparams and .pdopt files of Paddle without executing anything in them, and write them.

`paddle.save` (`python/paddle/framework/io.py`) writes one pickle of protocol 2 to 4. A state dict is a
dictionary of numpy arrays and a table of internal names; anything else, such as a dictionary with a state dict, holds
each tensor as a tuple (internal name, array). Protocols 2 and 3 split arrays of more than 1 GiB into slices. bfloat16,
which numpy does not have, is stored as uint16.
"""

from __future__ import annotations

import mmap
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from networks.checkpoints.checkpoint import Checkpoint, plain_values
from networks.checkpoints.opening import checkpoint_file
from networks.checkpoints.pickles.array_record import ARRAY_NAMES, array_record
from networks.checkpoints.pickles.inert_pickle import Call, read_pickle
from vidom.errors import BadDataError
from vidom.files import atomic_path, sha256_file

__all__ = ["is_weight_name", "paddle_tensor", "read_pdopt", "read_pdparams", "write_paddle"]

# The names in Paddle's checkpoints; files of weights need no others.
_NAMES = ARRAY_NAMES | {"builtins.tuple", "collections.OrderedDict"}
_MAX_NAME = 256
# Python's own, whose methods can be replaced; type checkers know few of them.
_PICKLER: Any = pickle._Pickler
_NAME_TABLE = "StructuredToParameterName@@"
_SLICES = "UnpackBigParamInfor@@"
_OPTIMIZER_TABLES = {"LR_Scheduler", "master_weights", "global_step"}
_OPTIMIZER_ENTRY = re.compile(r"_(velocity|moment[12]?|beta[12]_pow_acc|mean_square|mean_grad|momentum)_\d+$")


def read_pdparams(path: Path | str) -> Checkpoint:
    """Return the weights in the .pdparams file at `path` under Paddle's keys, in Paddle's layouts.

    float16 and bfloat16 are returned as float32, other types unchanged. Both of Paddle's layouts are read: a state
    dict, and a dictionary with a `state_dict`, whose texts and numbers are the `meta`. The table of internal names is
    left out, and slices of large arrays are joined.

    Raises UsageError when there is no such file. Raises BadDataError when it is damaged, holds the state of an
    optimizer, refers to any name but those of arrays, tuples and ordered dictionaries, or has entries other than
    arrays of numbers.
    """
    path = Path(path)
    source = f"The checkpoint {path}"
    content, protocol = _content(path, source=source)
    if not isinstance(content, dict) or not content:
        raise BadDataError(
            f"{source} has no named weights: expected a dictionary as paddle.save writes it, but found "
            f"{'an empty one' if content == {} else 'a different object'}. Use the .pdparams file of the model."
        )
    entries = content.get("state_dict", content)
    _reject_optimizer(content if not isinstance(entries, dict) else {**content, **entries}, source=source)
    arrays = _arrays(entries, source=source, size=path.stat().st_size)
    nested = entries is not content
    return Checkpoint(
        path=path,
        sha256=sha256_file(path),
        framework="paddle",
        layout=_layout(entries, protocol=protocol, nested=nested),
        meta=plain_values(content) if nested else {},
        state_dict={key: paddle_tensor(array) for key, array in arrays.items()},
    )


def read_pdopt(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of the optimizer in the .pdopt file at `path` under Paddle's names, and its other entries.

    Raises BadDataError for a damaged file and one that is not a flat dictionary, as `read_pdparams` does.
    """
    path = Path(path)
    source = f"The optimizer's state {path}"
    content, _ = _content(path, source=source)
    others = {}
    if isinstance(content, dict):
        others = {key: content[key] for key in _OPTIMIZER_TABLES & content.keys()}
        content = {key: value for key, value in content.items() if key not in others}
    arrays = _arrays(content, source=source, size=path.stat().st_size)
    return {key: paddle_tensor(array) for key, array in arrays.items()}, others


def write_paddle(
    path: Path | str,
    tensors: Mapping[str, Tensor],
    others: Mapping[str, Any] | None = None,
    *,
    table: Mapping[str, str],
) -> None:
    """Write what `paddle.save` writes of a state dict: these tensors in float32, other entries, the internal names.

    The pickle is of protocol 4, Paddle's default, and of the bytes of a Paddle that runs on numpy 1.
    """
    arrays = {key: tensor.detach().cpu().float().contiguous().numpy() for key, tensor in tensors.items()}
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        _Pickler(stream, 4).dump(
            {**arrays, **(others or {}), _NAME_TABLE: {key: table[key] for key in arrays}}
        )


class _Pickler(_PICKLER):  # type: ignore[misc]
    """Writes arrays with the name that numpy 1 has for their module: numpy 2 reads it too, but not the reverse."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        """Write the reference to a class or function."""
        if getattr(obj, "__name__", "") != "_reconstruct":
            super().save_global(obj, name)
            return
        self.save("numpy.core.multiarray")
        self.save("_reconstruct")
        self.write(pickle.STACK_GLOBAL)
        self.memoize(obj)


def paddle_tensor(array: NDArray[Any]) -> Tensor:
    """Return the array as a tensor: float16, and uint16, which is Paddle's bfloat16, as float32."""
    if array.dtype == np.uint16:
        return torch.from_numpy((array.astype(np.uint32) << 16).view(np.float32))
    return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float16 else array)


def is_weight_name(key: Any) -> bool:
    """Return whether `key` is printable as a tensor's name: a text of limited length without control characters."""
    return isinstance(key, str) and len(key) <= _MAX_NAME and key.isprintable()


def _content(path: Path, *, source: str) -> tuple[Any, int]:
    checkpoint_file(path)
    with path.open("rb") as stream:
        head = stream.read(2)
        if head[:1] != b"\x80" or head[1:] not in (b"\2", b"\3", b"\4"):
            raise BadDataError(
                f"{source} is not a file of paddle.save, which is a pickle of protocol 2 to 4, but starts with "
                f"{head!r}. Use the .pdparams file of the model."
            )
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return read_pickle(view, source=source, names=_NAMES).content, head[1]


def _layout(entries: Mapping[Any, Any], *, protocol: int, nested: bool) -> str:
    form = "nested: a dictionary with state_dict" if nested else "flat"
    table = ", with the table of internal names" if _NAME_TABLE in entries else ""
    sliced = ", large arrays in slices" if _SLICES in entries else ""
    return f"pickle of protocol {protocol}; {form}{table}{sliced}"


def _reject_optimizer(entries: Mapping[Any, Any], *, source: str) -> None:
    found = [
        key
        for key in entries
        if isinstance(key, str) and (key in _OPTIMIZER_TABLES or _OPTIMIZER_ENTRY.search(key))
    ]
    if found:
        raise BadDataError(
            f"{source} holds the state of an optimizer, not weights: it has {len(found)} entries such as "
            f"{found[0][:100]!r}. Paddle stores that in .pdopt files; use the .pdparams file next to it."
        )


def _arrays(entries: Any, *, source: str, size: int) -> dict[str, NDArray[Any]]:
    if not isinstance(entries, dict):
        raise BadDataError(
            f"{source}: its state_dict is not a dictionary. Use the .pdparams file of the model."
        )
    if not all(is_weight_name(key) for key in entries):
        raise BadDataError(f"{source}: its weights have invalid names. Use the .pdparams file of the model.")
    records = {
        key: array_record(_untupled(value), name=key[:200], source=source)
        for key, value in entries.items()
        if key not in (_NAME_TABLE, _SLICES)
    }
    # A pickle may refer to the same bytes any number of times, so its arrays could be of any size.
    if sum(record.nbytes for record in records.values()) > size:
        raise BadDataError(
            f"{source} has arrays that share their bytes: together they are larger than the file."
        )
    if not records:
        raise BadDataError(f"{source} has no weights. Use the .pdparams file of the model.")
    try:
        return _joined({key: record.array() for key, record in records.items()}, entries.get(_SLICES, {}))
    except (LookupError, ValueError) as error:
        raise BadDataError(
            f"{source} is damaged: the elements of its arrays, or the table {_SLICES} of the slices of large ones, do "
            f"not match ({str(error)[:100]}). Download it again and compare its sha256 with the published one."
        ) from None


def _untupled(value: Any) -> Any:
    match value:
        case Call(name="builtins.tuple", arguments=((str(), array),)) | (str(), array):
            return array
    return value


def _joined(arrays: dict[str, NDArray[Any]], sliced: Any) -> dict[str, NDArray[Any]]:
    if not isinstance(sliced, dict):
        raise ValueError("it is not a dictionary")
    for key, plan in sliced.items():
        match plan:
            case {"slices": [*names], "OriginShape": [*shape]} if all(
                isinstance(name, str) for name in (key, *names)
            ) and all(type(size) is int and 0 <= size < 1 << 62 for size in shape):
                arrays[key] = np.concatenate([arrays.pop(name) for name in names]).reshape(shape)
            case _:
                raise ValueError(f"no slices and shape for {key!r:.50}")
    return arrays
