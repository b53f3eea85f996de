"""The record of an evaluation: a row of scores for each sample, appended as it is computed.

    CRC32 {"vidom": 1, ...}                                     the header: what the rows were computed with
    CRC32 {"index": 7, "id": "78687", "label": 3, "scores": …}  one line a sample, in any order

Each line begins with eight hexadecimal digits, the CRC-32 of the rest of it; `scores` is base64 of little-endian
float32. A line that was torn by a kill or damaged does not have its checksum; it is dropped and its sample run again.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidom.errors import BadDataError, UsageError
from vidom.files import TEMP_SUFFIX, atomic_path

__all__ = ["RECORD_NAME", "Row", "RowRecord", "read_header", "read_rows"]

RECORD_NAME = "record.jsonl"
_VERSION = 1
# A row of a hundred thousand classes; more is no record of ours.
_MAX_LINE = 1 << 20


@dataclass(frozen=True, eq=False)
class Row:
    """The scores of one sample, float32 of shape (classes,); `index` is its position in the whole list."""

    index: int
    id: str
    label: int
    scores: npt.NDArray[np.float32]


class RowRecord:
    """The record in a folder, open for the rows still to come; `done` holds the indices that have theirs.

    `header` is what the rows are computed with. Raises UsageError when the folder holds the record of another
    evaluation, or a file of that name which is none; it is not touched.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        self.path = folder / RECORD_NAME
        wanted = {"vidom": _VERSION, **header}
        if self.path.exists():
            _refuse_foreign(self.path, wanted)
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(f"{RECORD_NAME}.*{TEMP_SUFFIX}"):
            leftover.unlink()
        self.done: set[int] = set()
        self._keep_whole_lines(wanted)
        self._stream = self.path.open("ab", buffering=0)

    def add(self, rows: Sequence[Row]) -> None:
        """The rows are in the file, those whose sample has one already left out."""
        new = {row.index: row for row in rows if row.index not in self.done}
        if new:
            self._stream.write(b"".join(_line(_document(row)) for row in new.values()))
            self.done |= new.keys()

    def close(self) -> None:
        """Nothing more is added."""
        self._stream.close()

    def _keep_whole_lines(self, header: Mapping[str, Any]) -> None:
        # Written anew, so that what follows a torn line is not joined to it.
        with atomic_path(self.path) as temporary, temporary.open("wb") as stream:
            stream.write(_line(header))
            for row in read_rows(self.path) if self.path.exists() else ():
                if row.index not in self.done:
                    stream.write(_line(_document(row)))
                    self.done.add(row.index)


def read_header(path: Path) -> dict[str, Any]:
    """Return what the rows of a record were computed with. Raises BadDataError for a file that is no record."""
    for document in _documents(path):
        if document is not None and document.get("vidom") == _VERSION:
            return document
        break
    raise BadDataError(
        f"{path} is no record of an evaluation: its first line is not the header that it begins with. Give the "
        f"folder that infer.evaluate wrote, or its {RECORD_NAME}."
    )


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a record whose lines are whole, one at a time; others are left out."""
    for number, document in enumerate(_documents(path)):
        if number and document is not None and (row := _row(document)) is not None:
            yield row


def _refuse_foreign(path: Path, wanted: Mapping[str, Any]) -> None:
    try:
        found = read_header(path)
    except BadDataError:
        raise UsageError(
            f"{path} is not a record that vidom wrote. Nothing was touched; choose another --output_dir."
        ) from None
    differing = [key for key in wanted if found.get(key) != wanted[key]]
    if differing:
        details = "; ".join(f"{key} {found.get(key)!r} there, {wanted[key]!r} asked for" for key in differing)
        raise UsageError(
            f"{path} is the record of another evaluation ({details}). Nothing was touched; choose another "
            "--output_dir, or delete that folder first."
        )


def _document(row: Row) -> dict[str, Any]:
    scores = base64.b64encode(row.scores.astype("<f4").tobytes()).decode()
    return {"index": row.index, "id": row.id, "label": row.label, "scores": scores}


def _row(document: Mapping[str, Any]) -> Row | None:
    try:
        scores = np.frombuffer(base64.b64decode(document["scores"], validate=True), "<f4").astype(np.float32)
        return Row(int(document["index"]), str(document["id"]), int(document["label"]), scores)
    except (KeyError, TypeError, ValueError, binascii.Error):
        return None


def _line(document: Mapping[str, Any]) -> bytes:
    text = json.dumps(document, ensure_ascii=False).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _documents(path: Path) -> Iterator[dict[str, Any] | None]:
    """Yield what each line holds, None for one that is not whole."""
    with path.open("rb") as stream:
        while line := stream.readline(_MAX_LINE):
            yield _checked(line)


def _checked(line: bytes) -> dict[str, Any] | None:
    text = line[9:-1]
    if not line.endswith(b"\n") or line[:9] != b"%08x " % zlib.crc32(text):
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
