"""The record of an evaluation: a row of scores for each sample, appended as it is computed.

    CRC32 {"vidom": 1, ...}                                     the header: what the rows were computed with
    CRC32 {"index": 7, "id": "78687", "label": 3, "scores": …}  one line per sample, in any order

Each line begins with eight hexadecimal digits, the CRC-32 of the rest of it; `scores` is base64 of little-endian
float32. A truncated or damaged line does not have its checksum; it is dropped and its sample is computed again.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidom.bounded_reading import parse_json
from vidom.errors import BadDataError, UsageError
from vidom.files import atomic_path, encode_json
from vidom.formats.clip_store import load_record
from vidom.wording import shown

__all__ = ["RECORD_NAME", "Row", "RowRecord", "read_header", "read_rows"]

RECORD_NAME = "record.jsonl"
_VERSION = 1
# A row of a hundred thousand classes; a longer line is not part of a record.
_MAX_LINE = 1 << 20


@dataclass(frozen=True, eq=False)
class Row:
    """The scores of one sample, float32 of shape (classes,); `index` is its position in the complete list."""

    index: int
    id: str
    label: int
    scores: npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Fields:
    """The fields of a row's line."""

    index: int
    id: str
    label: int
    scores: str


class RowRecord:
    """The record in a folder, open for the missing rows; `done` holds the indices of the samples that have theirs.

    `header` is what the rows are computed with. Raises UsageError when the folder holds the record of a different
    evaluation, or a file of that name which is not a record; nothing is changed then.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        self.path = folder / RECORD_NAME
        header = {"vidom": _VERSION, **header}
        if self.path.exists() or self.path.is_symlink():
            _check_same_evaluation(self.path, header)
        folder.mkdir(parents=True, exist_ok=True)
        self.done: set[int] = set()
        self._keep_complete_lines(header)
        self._stream = self.path.open("ab")

    def add(self, rows: Sequence[Row]) -> None:
        """Append the rows of samples that have none yet."""
        new = {row.index: row for row in rows if row.index not in self.done}
        if new:
            self._stream.write(b"".join(_line(_document(row)) for row in new.values()))
            self._stream.flush()
            self.done |= new.keys()

    def close(self) -> None:
        """Close the file; nothing can be added afterwards."""
        self._stream.close()

    def _keep_complete_lines(self, header: Mapping[str, Any]) -> None:
        # The file is rewritten, so that the next row is not appended to a truncated line.
        with atomic_path(self.path) as temporary, temporary.open("wb") as stream:
            stream.write(_line(header))
            for row in read_rows(self.path) if self.path.exists() else ():
                if row.index not in self.done:
                    stream.write(_line(_document(row)))
                    self.done.add(row.index)


def read_header(path: Path) -> dict[str, Any]:
    """Return what the rows of a record were computed with. Raises BadDataError for a file that is not a record."""
    first = next(_documents(path), None)
    if first is not None and first.get("vidom") == _VERSION:
        return first
    raise BadDataError(
        f"{path} is not the record of an evaluation: its first line is not a header. Give the folder that "
        f"infer.evaluate wrote, or its {RECORD_NAME}."
    )


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a record, one at a time, without those of truncated or damaged lines."""
    for number, document in enumerate(_documents(path)):
        if number and document is not None and (row := _row(document)) is not None:
            yield row


def _check_same_evaluation(path: Path, header: Mapping[str, Any]) -> None:
    try:
        existing = read_header(path)
    except BadDataError:
        raise UsageError(
            f"{path} is not a record written by vidom. Nothing was changed; choose a different --output_dir."
        ) from None
    differing = [key for key in header if existing.get(key) != header[key]]
    if differing:
        details = "; ".join(
            f"{key} {shown(repr(existing.get(key)))} there, {header[key]!r} requested" for key in differing
        )
        raise UsageError(
            f"{path} is the record of a different evaluation ({details}). Nothing was changed; choose a different "
            "--output_dir, or delete that folder first."
        )


def _document(row: Row) -> dict[str, Any]:
    scores = base64.b64encode(row.scores.astype("<f4").tobytes()).decode()
    return {"index": row.index, "id": row.id, "label": row.label, "scores": scores}


def _row(document: Mapping[str, Any]) -> Row | None:
    try:
        fields = load_record(_Fields, document)
        scores = np.frombuffer(base64.b64decode(fields.scores, validate=True), "<f4").astype(np.float32)
    except (TypeError, ValueError):
        return None
    return Row(fields.index, fields.id, fields.label, scores)


def _line(document: Mapping[str, Any]) -> bytes:
    text = encode_json(json.dumps(document, ensure_ascii=False))
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _documents(path: Path) -> Iterator[dict[str, Any] | None]:
    """Yield the content of each line, None for a truncated or damaged one."""
    if not path.is_file():
        return
    with path.open("rb") as stream:
        while line := stream.readline(_MAX_LINE):
            yield _checked(line)


def _checked(line: bytes) -> dict[str, Any] | None:
    text = line[9:-1]
    if not line.endswith(b"\n") or line[:9] != b"%08x " % zlib.crc32(text):
        return None
    try:
        document = parse_json(text)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
