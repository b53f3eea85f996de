"""Tensors in torch pickles: strided views of storages, which are stored elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from networks.checkpoints.pickles.inert_pickle import Call, Global, Stored
from vidom.errors import BadDataError
from vidom.wording import shown

__all__ = ["TensorRecord", "element_type", "tensor_record"]

_ELEMENT_TYPES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
_MAX_DIMENSIONS = 8
# No file holds more; a pickled integer may have any number of digits.
_LARGEST = 1 << 62


@dataclass(frozen=True)
class TensorRecord:
    """A view of `storage`, which has `elements` numbers of type `dtype`; offset and strides count elements."""

    storage: str
    elements: int
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view_of(self, content: bytearray, *, source: str) -> Tensor:
        """Return the tensor, sharing the memory of its storage's `content`.

        Raises BadDataError, with `source`, when the record exceeds the content. A tensor that repeats elements (stride
        0) is rejected too: its copy could be of any size.
        """
        if len(content) != self.elements * self.dtype.itemsize:
            expected = f"{self.elements} elements of {self.dtype}"
            raise BadDataError(f"{source}: its storage has {len(content)} bytes, expected {expected}.")
        numbers = (self.offset, *self.shape, *self.strides)
        reach = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        fits = (
            all(0 <= number <= max(self.elements, 1) for number in numbers)
            and math.prod(self.shape) <= self.elements
            and (0 in self.shape or self.offset + reach < self.elements)
        )
        if not fits:
            raise BadDataError(
                f"{source}: its shape {list(self.shape)} with strides {list(self.strides)} from element "
                f"{self.offset} exceeds its storage of {self.elements} elements."
            )
        if not content:
            return torch.empty(self.shape, dtype=self.dtype)
        return torch.frombuffer(content, dtype=self.dtype).as_strided(self.shape, self.strides, self.offset)


def element_type(storage_class: str, *, source: str) -> torch.dtype:
    """Return the dtype of a storage class such as `torch.FloatStorage`; raises BadDataError for an unknown one."""
    if storage_class not in _ELEMENT_TYPES:
        known = ", ".join(_ELEMENT_TYPES)
        raise BadDataError(
            f"{source} has a {shown(storage_class)}, which is not supported; supported are {known}."
        )
    return _ELEMENT_TYPES[storage_class]


def tensor_record(value: Any, *, name: str, source: str) -> TensorRecord:
    """Return the record of the tensor, or of the data of the parameter, that the inert `value` describes.

    Raises BadDataError, with `source` and the entry's `name`, for anything but a dense tensor.
    """
    match value:
        case Call(name="torch._utils._rebuild_parameter", arguments=(Call() as call, *_)) | (Call() as call):
            pass
        case _:
            raise _invalid_entry(value, name=name, source=source)
    match call.name, call.arguments:
        case (
            "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor",
            (
                # The storage's device is ignored; a sixth part, None, belongs to the legacy layout.
                Stored(
                    identifier=("storage", Global(name=kind), str(key), _, elements)
                    | ("storage", Global(name=kind), str(key), _, elements, None)
                ),
                offset,
                tuple(shape),
                tuple(strides),
                *_,
            ),
        ):
            if not len(shape) == len(strides) <= _MAX_DIMENSIONS or not all(
                map(_is_size, (elements, offset, *shape, *strides))
            ):
                raise BadDataError(
                    f"{source}, tensor {shown(name)}: its shape, strides, offset and storage should be integers that "
                    f"a file can have, of at most {_MAX_DIMENSIONS} dimensions, with a stride for each. It is damaged; "
                    "download it again."
                )
            return TensorRecord(key, elements, element_type(kind, source=source), offset, shape, strides)
    raise _invalid_entry(call, name=name, source=source)


def _is_size(number: Any) -> bool:
    # In Python True is an int; in a shape it is invalid.
    return type(number) is int and 0 <= number <= _LARGEST


def _invalid_entry(value: Any, *, name: str, source: str) -> BadDataError:
    found = shown(value.name) if isinstance(value, Call | Global) else type(value).__name__
    return BadDataError(f"{source}: the entry '{shown(name)}' should be a dense tensor, but is {found}.")
