"""What the manifest of a clip store is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

__all__ = ["ClipFile", "Sample", "Skipped", "StoreHeader", "load_record"]

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
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


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


def load_record(kind: type[_T], document: Mapping[str, Any]) -> _T:
    """Return the dataclass whose fields JSON gave back, its lists as tuples.

    Raises TypeError when a field is unknown, of a different type, or absent without a default.
    """
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in document.items()}
    for name, hint in _hints(kind).items():
        value = values.get(name, getattr(kind, name, None))
        elements = [get_origin(part) or part for part in get_args(hint)][:1]
        if not isinstance(value, get_origin(hint) or hint):
            raise TypeError(f"{name} is {value!r}")
        if elements and not all(isinstance(item, elements[0]) for item in value):
            raise TypeError(f"{name} is {value!r}")
    return kind(**values)


_hints: Callable[[Any], dict[str, Any]] = cache(get_type_hints)
