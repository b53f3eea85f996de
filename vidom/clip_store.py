"""The clip store: the folder of raw tensors that `preprocess` writes and every engine reads.

    STORE/clips/000000.bin ...   little-endian, C order, `samples_per_file` samples each
    STORE/manifest.json          what the bytes are, where each sample came from, what was skipped
    STORE/NAME.info              `index label` a line, as ModelZoo's scripts read it

A sample's index is its position in the annotation list. File k holds the samples of the list positions
k*N .. k*N+N-1 that could be read; where some are missing its first sample is repeated, and the manifest
says how many rows are such padding.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from vidom.errors import BadData
from vidom.files import (
    crc32_file,
    read_json,
    read_lines,
)
from vidom.mindspore_310 import read_label_ids

__all__ = [
    "SCHEMA_VERSION",
    "ClipFile",
    "ClipStore",
    "Sample",
    "Skipped",
    "StoreHeader",
    "load_record",
    "read_info",
]

SCHEMA_VERSION = 1
DTYPES = ("float32", "uint8")
_T = TypeVar("_T")
# As many digits as any data set needs; longer ones cost Python quadratic time.
_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class StoreHeader:
    """What every tensor of a store has in common; `shape` is one sample's, `recipe_sha256` its recipe's digest.

    `normalised` tells whether mean and std are already applied (float32) or left to the graph (uint8).
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

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample's tensor."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    @property
    def file_bytes(self) -> int:
        """Bytes of one clip file."""
        return self.sample_bytes * self.samples_per_file


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
    """One file under `clips/`: the samples of its rows in order, then `padding` repeated rows."""

    name: str
    bytes: int
    crc32: int
    samples: tuple[int, ...]
    padding: int


@dataclass(frozen=True)
class ClipStore:
    """A finished store, opened for reading."""

    folder: Path
    header: StoreHeader
    samples: Mapping[int, Sample]
    skipped: tuple[Skipped, ...]
    files: tuple[ClipFile, ...]
    labels: tuple[str, ...]

    @classmethod
    def open(cls, folder: Path | str) -> ClipStore:
        """Return the store in `folder` (or whose `clips` folder that is).

        Raises BadData when the manifest is absent, of another version or damaged.
        """
        folder = Path(folder)
        if folder.name == "clips" and not (folder / "manifest.json").exists():
            folder = folder.parent
        document = read_json(folder / "manifest.json", what="clip store manifest")
        try:
            if document["version"] != SCHEMA_VERSION:
                raise BadData(
                    f"The clip store {folder} has manifest version {document['version']}, this vidom reads "
                    f"version {SCHEMA_VERSION}. Pack it again."
                )
            samples = [load_record(Sample, entry) for entry in document["samples"]]
            store = cls(
                folder=folder,
                header=load_record(
                    StoreHeader, {key: document[key] for key in StoreHeader.__dataclass_fields__}
                ),
                samples={sample.index: sample for sample in samples},
                skipped=tuple(load_record(Skipped, entry) for entry in document["skipped"]),
                files=tuple(load_record(ClipFile, entry) for entry in document["files"]),
                labels=tuple(document["labels"]),
            )
            store._check_consistency(len(samples))
            return store
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadData(
                f"The manifest of the clip store {folder} is damaged ({error!r}). Pack the store again."
            ) from None

    def _check_consistency(self, samples: int) -> None:
        if self.header.dtype not in DTYPES or min(self.header.shape, default=0) < 1:
            raise ValueError(f"tensors of {self.header.dtype!r} and shape {self.header.shape}")
        held = [index for clip_file in self.files for index in clip_file.samples]
        if not len(held) == len(set(held)) == samples or set(held) != set(self.samples):
            raise ValueError("the samples listed are not those that the files hold")

    def path(self, clip_file: ClipFile) -> Path:
        """Return where the file lies; a name that would leave the store is refused with BadData."""
        if Path(clip_file.name).name != clip_file.name:
            raise BadData(
                f"The manifest of {self.folder} names {clip_file.name!r}, which is not a plain file name."
            )
        return self.folder / "clips" / clip_file.name

    def check_sizes(self) -> None:
        """Every file has the size the manifest says, else BadData names the first that has not."""
        for clip_file in self.files:
            path = self.path(clip_file)
            found = path.stat().st_size if path.is_file() else None
            if found != clip_file.bytes:
                raise self._wrong_size(clip_file, found)

    def check_content(self, clip_file: ClipFile) -> None:
        """The file's bytes have the checksum of the manifest, else BadData."""
        if crc32_file(self.path(clip_file)) != clip_file.crc32:
            raise BadData(
                f"The clip file {self.path(clip_file)} does not have the checksum it was packed with. Delete it "
                "and run the preprocess command again."
            )

    def read(self, clip_file: ClipFile) -> npt.NDArray[Any]:
        """Return the file's real rows, shape (samples, *sample shape), without its padding.

        Raises BadData when it has another size than the manifest says.
        """
        path = self.path(clip_file)
        found = path.stat().st_size if path.is_file() else None
        if not found == clip_file.bytes == self.header.file_bytes:
            raise self._wrong_size(clip_file, found)
        rows = np.fromfile(path, dtype=self.header.dtype).reshape(-1, *self.header.shape)
        return rows[: len(clip_file.samples)]

    def _wrong_size(self, clip_file: ClipFile, found: int | None) -> BadData:
        return BadData(
            f"The clip file {self.path(clip_file)} should have {clip_file.bytes} bytes and "
            + ("is missing" if found is None else f"has {found}")
            + ". It was cut short or changed after packing; run the preprocess command again to repair it."
        )


def read_info(path: Path | str) -> dict[int, int]:
    """Return {index: label} of an `index label` list such as `sthv2.info`, in the order of the file.

    A `.npy` file is read as the `label_ids.npy` of MindSpore's 310 flow, indices counted from 0.

    Raises BadData naming the line when one is not two whole numbers or an index stands twice.
    """
    if Path(path).suffix == ".npy":
        return dict(enumerate(read_label_ids(Path(path))))
    labels: dict[int, int] = {}
    for number, line in enumerate(read_lines(path, what="label list"), start=1):
        fields = line.split()
        if len(fields) != 2 or not all(_NUMBER.fullmatch(field) for field in fields):
            raise BadData(f"Line {number} of {path} is {line!r}; expected `index label`, two whole numbers.")
        index, label = map(int, fields)
        if index in labels:
            raise BadData(f"Line {number} of {path} gives sample {index} a second time.")
        labels[index] = label
    return labels


def load_record(kind: type[_T], document: Mapping[str, Any]) -> _T:
    """Return the dataclass whose fields JSON gave back, its lists as tuples.

    Raises TypeError when a field is absent, unknown or of another type.
    """
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in document.items()}
    for name, hint in _hints(kind).items():
        value, elements = values.get(name), [get_origin(part) or part for part in get_args(hint)][:1]
        if not isinstance(value, get_origin(hint) or hint):
            raise TypeError(f"{name} is {value!r}")
        if elements and not all(isinstance(item, elements[0]) for item in value):
            raise TypeError(f"{name} is {value!r}")
    return kind(**values)


_hints: Callable[[Any], dict[str, Any]] = cache(get_type_hints)
