"""The finished batches of a run, on disk next to its summary, so that a killed run resumes where it stopped."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from infer.batches.run_folder import RunFolder
from vidom.files import crc32_file, flush_to_disk, write_bytes
from vidom.formats.clip_store import load_record
from vidom.journals import append_line, open_journal, read_json_lines

__all__ = ["BatchRecord", "RunJournal"]

JOURNAL_VERSION = 1
_OUTPUT_NAME = re.compile(r"[^/\0]{1,255}")


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
        records = map(_batch_record, lines) if found == header else ()
        self.done = {record.number: record for record in records if record and self._is_complete(record)}
        # The journal is written first and at once: from here on the folder is known to be ours.
        self._stream = open_journal(self._path, [header, *map(asdict, self.done.values())])
        self._places.clear(keep={name for record in self.done.values() for name, _ in record.outputs})

    def write(self, name: str, content: bytes) -> tuple[str, int]:
        """Write an output file; return its name and CRC-32 for the batch's record."""
        write_bytes(self.folder / name, content, durable=False)
        return name, zlib.crc32(content)

    def add(self, record: BatchRecord) -> None:
        """Record the batch, whose outputs are written, so that it is not run again."""
        append_line(self._stream, asdict(record))

    def flush(self, names: Iterable[str]) -> None:
        """Wait until these outputs are on the disk itself, which the summary will state of them without checksums."""
        for name in names:
            flush_to_disk(self.folder / name)

    def finish(self) -> None:
        """Remove the journal; the summary, which marks the run as complete, must have been written before."""
        self._stream.close()
        self._path.unlink()

    def _is_complete(self, record: BatchRecord) -> bool:
        paths = ((self.folder / name, crc) for name, crc in record.outputs)
        return all(path.is_file() and crc32_file(path) == crc for path, crc in paths)


def _batch_record(document: Any) -> BatchRecord | None:
    """Return the batch that a line of a journal records, None for a damaged one."""
    try:
        record = load_record(BatchRecord, document)
        names = [_OUTPUT_NAME.fullmatch(name) for name, _crc in record.outputs]
    except (TypeError, ValueError):
        return None
    return record if all(names) else None
