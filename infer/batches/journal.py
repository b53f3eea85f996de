"""The finished batches of a run, on disk next to its summary, so that a killed run resumes where it stopped."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from infer.batches.run_folder import RunFolder
from vidom.files import (
    TEMP_SUFFIX,
    append_line,
    crc32_file,
    read_json_lines,
    write_bytes,
    write_text,
)
from vidom.formats.clip_store import load_record

__all__ = ["BatchRecord", "RunJournal"]

JOURNAL_VERSION = 1


@dataclass(frozen=True)
class BatchRecord:
    """One finished batch: the wall time from reading to writing (`seconds`, in s), and its parts in ms.

    `outputs` holds (name, CRC-32) of each file written.
    """

    number: int
    seconds: float
    compute_ms: tuple[float, ...]
    h2d_ms: float
    d2h_ms: float
    outputs: tuple[Sequence[Any], ...] = ()


class RunJournal:
    """The run folder and its journal `{output_dirname}.journal.jsonl`, ready for the remaining batches.

    `done` holds the batches of an earlier, killed run with the same fingerprint whose outputs are still complete. Any
    other output of an earlier run is removed, but only from a folder that vidom created.

    Raises UsageError as `RunFolder.refuse_foreign` does.
    """

    def __init__(self, output: str, dirname: str, fingerprint: Mapping[str, Any]) -> None:
        self._places = RunFolder.of(output, dirname)
        self.prefix, self.folder = self._places.prefix, self._places.folder
        self.summary = self._places.summary
        self._path = self._places.journal
        header = {"vidom": JOURNAL_VERSION, **fingerprint}
        found, *lines = read_json_lines(self._path) or [None]
        self._places.refuse_foreign()
        records = [load_record(BatchRecord, line) for line in lines] if found == header else []
        self.done = {record.number: record for record in records if self._is_complete(record)}
        self._begin(header)

    def write(self, name: str, content: bytes) -> tuple[str, int]:
        """Write an output file; return its name and CRC-32 for the batch's record."""
        write_bytes(self.folder / name, content)
        return name, zlib.crc32(content)

    def add(self, record: BatchRecord) -> None:
        """Record the batch, whose outputs are on disk, so that it is not run again."""
        with self._path.open("a", encoding="utf-8") as stream:
            append_line(stream, asdict(record))

    def finish(self) -> None:
        """Remove the journal; the summary, which marks the run as complete, must have been written before."""
        self._path.unlink()
        for name in (self._path.name, self.summary.name):
            for leftover in self._path.parent.glob(f"{name}.*{TEMP_SUFFIX}"):
                leftover.unlink()

    def _is_complete(self, record: BatchRecord) -> bool:
        paths = ((self.folder / name, crc) for name, crc in record.outputs)
        return all(path.is_file() and crc32_file(path) == crc for path, crc in paths)

    def _begin(self, header: Mapping[str, Any]) -> None:
        # The journal is written first and at once: from here on the folder is known to be ours.
        lines = [header, *(asdict(record) for record in self.done.values())]
        write_text(self._path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        self._places.clear(keep={name for record in self.done.values() for name, _ in record.outputs})
