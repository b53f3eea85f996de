"""The clip store: the folder of raw tensors that `preprocess` writes and every engine reads.

    STORE/clips/000000.bin ...   little-endian, C order, `samples_per_file` samples each
    or    clips/000000v00.bin ...   one view of a sample each, where samples are large
    STORE/manifest.json          what the bytes are, where each sample came from, what was skipped
    STORE/NAME.info              `index label` a line, as ModelZoo's scripts read it

A sample's index is its position in the annotation list. File k holds the samples of the list positions
k*N .. k*N+N-1 that could be read; where some are missing its first sample is repeated, and the manifest
says how many rows are such padding. In a store of single views, file 000012v03 is view 3 of sample 12, views
counted as in the tensor of the complete sample: crop by crop and within it clip by clip.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidom.bounded_reading import read_json, read_lines
from vidom.errors import BadDataError
from vidom.files import crc32_file
from vidom.formats.clip_store_records import (
    ClipFile,
    Packed,
    Sample,
    Skipped,
    StoreHeader,
    load_record,
    texts,
)
from vidom.formats.mindspore_310 import read_label_ids
from vidom.wording import shown

__all__ = [
    "SCHEMA_VERSION",
    "ClipFile",
    "ClipStore",
    "Packed",
    "Sample",
    "Skipped",
    "StoreHeader",
    "load_record",
    "read_info",
]

SCHEMA_VERSION = 1
DTYPES = ("float32", "uint8")
# As many digits as any data set needs; longer ones cost Python quadratic time.
_NUMBER = re.compile(r"[0-9]{1,9}")
_FILE_NAME = re.compile(r"[0-9A-Za-z_-]{1,64}\.bin")
_LARGEST = 1 << 48
# Some two million samples.
_MAX_LIST_BYTES = 1 << 25


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

        Raises BadDataError when the manifest is absent, of a different version or damaged.
        """
        folder = Path(folder)
        if folder.name == "clips" and not (folder / "manifest.json").exists():
            folder = folder.parent
        document = read_json(folder / "manifest.json", what="clip store manifest")
        try:
            if document["version"] != SCHEMA_VERSION:
                raise BadDataError(
                    f"The clip store {folder} has manifest version {shown(document['version'])}, this vidom reads "
                    f"version {SCHEMA_VERSION}. Pack it again."
                )
            samples = [load_record(Sample, entry) for entry in document["samples"]]
            store = cls(
                folder=folder,
                header=load_record(
                    StoreHeader,
                    {key: document[key] for key in StoreHeader.__dataclass_fields__ if key in document},
                ),
                samples={sample.index: sample for sample in samples},
                skipped=tuple(load_record(Skipped, entry) for entry in document["skipped"]),
                files=tuple(load_record(ClipFile, entry) for entry in document["files"]),
                labels=texts(document["labels"]),
            )
            store._check_consistency(len(samples))
            return store
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadDataError(
                f"The manifest of the clip store {folder} is damaged ({shown(repr(error))}). Pack the store again."
            ) from None

    def _check_consistency(self, samples: int) -> None:
        header = self.header
        if header.dtype not in DTYPES or min(header.shape, default=0) < 1 or header.file_bytes > _LARGEST:
            raise ValueError(f"tensors of {header.dtype!r} and shape {header.shape}")
        views = header.views_per_sample
        averaging = ("prob", "score") if views > 1 else ("",)
        if (
            min(views, header.samples_per_file) < 1
            or header.average_clips not in averaging
            or min(views, header.samples_per_file) > 1
        ):
            raise ValueError(
                f"{views} views of {header.samples_per_file} samples, averaged by {header.average_clips!r}"
            )
        held = [(index, clip_file.view) for clip_file in self.files for index in clip_file.samples]
        if not len(held) == len(set(held)) == samples * views or set(held) != {
            (index, view) for index in self.samples for view in range(views)
        }:
            raise ValueError("the samples listed are not those that the files hold")
        if any(min(sample.index, sample.label) < 0 for sample in self.samples.values()):
            raise ValueError("a sample with a negative index or label")

    def path(self, clip_file: ClipFile) -> Path:
        """Return the path of the file. Raises BadDataError for a name that would leave the store."""
        if not _FILE_NAME.fullmatch(clip_file.name):
            raise BadDataError(
                f"The manifest of {self.folder} names {shown(clip_file.name)}, which is not a plain file name."
            )
        return self.folder / "clips" / clip_file.name

    def check_sizes(self) -> None:
        """Raise BadDataError, naming the first file whose size differs from the manifest."""
        for clip_file in self.files:
            path = self.path(clip_file)
            found = path.stat().st_size if path.is_file() else None
            if found != clip_file.bytes:
                raise self._wrong_size(clip_file, found)

    def check_content(self, clip_file: ClipFile) -> None:
        """Raise BadDataError unless the file's bytes have the checksum of the manifest."""
        if crc32_file(self.path(clip_file)) != clip_file.crc32:
            raise BadDataError(
                f"The clip file {self.path(clip_file)} does not have the checksum it was packed with. Run the "
                "preprocess command again, which writes it anew."
            )

    def read(self, clip_file: ClipFile) -> npt.NDArray[Any]:
        """Return the file's real rows, shape (samples, *sample shape), without its padding.

        Raises BadDataError when its size differs from the manifest.
        """
        path = self.path(clip_file)
        found = path.stat().st_size if path.is_file() else None
        if not found == clip_file.bytes == self.header.file_bytes:
            raise self._wrong_size(clip_file, found)
        rows = np.fromfile(path, dtype=self.header.dtype).reshape(-1, *self.header.shape)
        return rows[: len(clip_file.samples)]

    def _wrong_size(self, clip_file: ClipFile, found: int | None) -> BadDataError:
        return BadDataError(
            f"The clip file {self.path(clip_file)} should have {clip_file.bytes} bytes and "
            + ("is missing" if found is None else f"has {found}")
            + ". It was cut short or changed after packing; run the preprocess command again to repair it."
        )


def read_info(path: Path | str) -> dict[int, int]:
    """Return {index: label} of an `index label` list such as `sthv2.info`, in the order of the file.

    A `.npy` file is read as the `label_ids.npy` of MindSpore's 310 flow, indices counted from 0.

    Raises BadDataError naming the line that is not two integers or repeats an index.
    """
    if Path(path).suffix == ".npy":
        return dict(enumerate(read_label_ids(Path(path))))
    labels: dict[int, int] = {}
    for number, line in enumerate(read_lines(path, what="label list", max_bytes=_MAX_LIST_BYTES), start=1):
        fields = line.split()
        if len(fields) != 2 or not all(_NUMBER.fullmatch(field) for field in fields):
            raise BadDataError(
                f"Line {number} of {path} is {shown(repr(line))}; expected `index label`, two integers."
            )
        index, label = map(int, fields)
        if index in labels:
            raise BadDataError(f"Line {number} of {path} gives sample {index} a second time.")
        labels[index] = label
    return labels
