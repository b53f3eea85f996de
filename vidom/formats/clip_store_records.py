"""What the manifest of a clip store is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from vidom.wording import shown

__all__ = ["ClipFile", "Packed", "Sample", "Skipped", "StoreHeader", "load_record", "texts"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class StoreHeader:
    """What every tensor of a store has in common; `recipe_sha256` is its recipe's digest.

    `shape` is that of a file's rows, which are samples, or single views of them where `views_per_sample` is more
    than 1. `average_clips` then says how the views' scores become a sample's ("prob" or "score", see
    `vidom.formats.recipe.Head`) and is empty otherwise. `layout` is the view plan's, or "frames" where a
    sample is its uncropped frames, [frames, 3, height, width], from which the graph takes the views, or "NHWC" where it
    is images with channels last, [images, height, width, 3], for an NPU's AIPP. `normalised` is whether mean and std
    are already applied (float32) or left to the graph or AIPP (uint8).
    """

    recipe: str
    recipe_sha256: str
    list_sha256: str
    dtype: str
    shape: tuple[int, ...]
    layout: str
    normalised: bool
    samples_per_file: int
    decoder: str
    views_per_sample: int = 1
    average_clips: str = ""

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample's tensor, all views together."""
        return self._row_bytes * self.views_per_sample

    @property
    def file_bytes(self) -> int:
        """Bytes of one clip file."""
        return self._row_bytes * self.samples_per_file

    @property
    def _row_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Sample:
    """One labelled video in the store: its index in the list, and the frames its tensor was made of."""

    index: int
    id: str
    label: int
    source: str
    frames: tuple[int, ...]


@dataclass(frozen=True)
class Skipped:
    """One video of the list that is not in the store, and why."""

    index: int
    id: str
    source: str
    reason: str


@dataclass(frozen=True)
class ClipFile:
    """One file under `clips/`: the samples of its rows in order, then `padding` repeated rows.

    In a store of single views there is one sample, and the file holds its view number `view`.
    """

    name: str
    bytes: int
    crc32: int
    samples: tuple[int, ...]
    padding: int
    view: int = 0


@dataclass(frozen=True)
class Packed:
    """The result of packing a group of list positions, a line of the journal."""

    files: tuple[ClipFile, ...]
    samples: tuple[Sample, ...]
    skipped: tuple[Skipped, ...]


def load_record(kind: type[_T], document: Mapping[str, Any]) -> _T:
    """Return the dataclass whose fields JSON gave back, its lists as tuples.

    Raises TypeError when `document` is none, or a field is unknown, infinite, of a different type, or absent without a
    default.
    """
    if not isinstance(document, Mapping):
        raise TypeError(f"{shown(document)} instead of fields")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in document.items()}
    for name, hint in _hints(kind).items():
        value: Any = values.get(name, getattr(kind, name, None))
        if type(value) is hint and hint is not float:
            continue
        elements = [get_origin(part) or part for part in get_args(hint)][:1]
        if not _are((value,), get_origin(hint) or hint) or (elements and not _are(value, elements[0])):
            raise TypeError(f"{name} is {shown(value)}")
    return kind(**values)


def texts(document: Any) -> tuple[str, ...]:
    """Return a JSON list of texts as a tuple. Raises TypeError for anything else."""
    if not isinstance(document, list) or not _are(document, str):
        raise TypeError(f"{shown(document)} instead of a list of texts")
    return tuple(document)


def _are(values: Sequence[Any], kind: type) -> bool:
    """Return whether all values are finite and of that type; Python takes truth values for integers, JSON does not."""
    types = {*map(type, values)}
    right = all(issubclass(found, kind) and (found is not bool or kind is bool) for found in types)
    return right and (float not in types or all(map(math.isfinite, values)))


_hints: Callable[[Any], dict[str, Any]] = cache(get_type_hints)
