"""The writing side of the clip store: file by file, resumable, the same bytes however often it was killed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from vidom.errors import UsageError
from vidom.files import TEMP_SUFFIX, append_line, read_json_lines, write_text
from vidom.formats.clip_store import (
    SCHEMA_VERSION,
    ClipFile,
    ClipStore,
    Sample,
    Skipped,
    StoreHeader,
    load_record,
)

__all__ = ["ClipStoreWriter"]


class ClipStoreWriter:
    """Writes a store file by file so that a killed run, started again, ends with the same bytes.

    Finished files are recorded in a journal; `finished` names the list positions that need no more work.
    What was skipped is tried again, since the video may have been repaired in the meantime.
    Raises UsageError when `folder` already holds a store made with different settings.
    """

    def __init__(self, folder: Path, header: StoreHeader) -> None:
        self.folder = folder
        self.header = header
        self.clips = folder / "clips"
        self.clips.mkdir(parents=True, exist_ok=True)
        self._journal_path = folder / "manifest.journal.jsonl"
        self.files: dict[str, ClipFile] = {}
        self.samples: dict[int, Sample] = {}
        self.skipped: dict[int, Skipped] = {}
        self._resume()

    @property
    def finished(self) -> set[int]:
        """The list positions whose samples are on disk already."""
        return set(self.samples)

    def file_name(self, position: int, view: int = 0) -> str:
        """Return the dot-free, zero-padded name of the file that holds this list position, or a view of it."""
        stem = f"{position // self.header.samples_per_file:06d}"
        return f"{stem}v{view:02d}.bin" if self.header.views_per_sample > 1 else f"{stem}.bin"

    def add(self, files: Sequence[ClipFile], samples: Sequence[Sample], skipped: Sequence[Skipped]) -> None:
        """Record one finished group of list positions; its files, if any sample was readable, are on disk."""
        record = {
            "files": [asdict(clip_file) for clip_file in files],
            "samples": [asdict(sample) for sample in samples],
            "skipped": [asdict(skip) for skip in skipped],
        }
        append_line(self._journal, record)
        self._remember(record)

    def finish(self, labels: Sequence[str], info_name: str) -> None:
        """Write the manifest and the `.info` list; remove the journal and leftovers."""
        self._journal.close()
        manifest = {
            "version": SCHEMA_VERSION,
            **asdict(self.header),
            "samples": [asdict(self.samples[index]) for index in sorted(self.samples)],
            "skipped": [asdict(self.skipped[index]) for index in sorted(self.skipped)],
            "files": [asdict(clip_file) for clip_file in _in_order(self.files.values())],
            "labels": list(labels),
        }
        info = "".join(f"{index} {self.samples[index].label}\n" for index in sorted(self.samples))
        write_text(self.folder / info_name, info)
        write_text(self.folder / "manifest.json", _a_line_per_entry(manifest))
        self._journal_path.unlink()
        self._remove_leftovers()

    def _resume(self) -> None:
        """Take over the groups that an earlier run finished without skipping anything."""
        header, *records = read_json_lines(self._journal_path) or self._records_of_finished_store()
        wanted = _plain(asdict(self.header))
        if header and header != wanted:
            raise self._other_settings(header)
        self._remove_leftovers()
        kept = [
            record for record in records if not record["skipped"] and all(map(self._on_disk, record["files"]))
        ]
        for record in kept:
            self._remember(record)
        # Rewritten completely, so that a line truncated by the kill does not remain in the middle.
        write_text(self._journal_path, "".join(f"{json.dumps(line)}\n" for line in [wanted, *kept]))
        self._journal = self._journal_path.open("a", encoding="utf-8")

    def _remove_leftovers(self) -> None:
        for leftover in self.clips.glob(f"*{TEMP_SUFFIX}"):
            leftover.unlink()

    def _records_of_finished_store(self) -> list[dict[str, Any]]:
        if not (self.folder / "manifest.json").exists():
            return [{}]
        store = ClipStore.open(self.folder)
        incomplete = {self.file_name(skip.index) for skip in store.skipped}
        # The views of one sample were recorded together.
        groups = groupby(_in_order(store.files), key=lambda clip_file: clip_file.samples)
        records = [
            {
                "files": [asdict(clip_file) for clip_file in files],
                "samples": [asdict(store.samples[index]) for index in files[0].samples],
                "skipped": [],
            }
            for files in (tuple(group) for _, group in groups)
            if files[0].name not in incomplete
        ]
        return [_plain(asdict(store.header)), *records]

    def _on_disk(self, clip_file: Mapping[str, Any]) -> bool:
        path = self.clips / clip_file["name"]
        return bool(path.is_file() and path.stat().st_size == self.header.file_bytes)

    def _other_settings(self, found: Mapping[str, Any]) -> UsageError:
        wanted = _plain(asdict(self.header))
        differing = [key for key in wanted if found.get(key) != wanted[key]]
        details = "; ".join(f"{key} {found.get(key)!r} there, {wanted[key]!r} requested" for key in differing)
        return UsageError(
            f"{self.folder} already holds a clip store made with different settings ({details}). Choose a different "
            "--output_dir, or delete that folder first."
        )

    def _remember(self, record: Mapping[str, Any]) -> None:
        self.files |= {entry["name"]: load_record(ClipFile, entry) for entry in record["files"]}
        self.samples |= {entry["index"]: load_record(Sample, entry) for entry in record["samples"]}
        self.skipped |= {entry["index"]: load_record(Skipped, entry) for entry in record["skipped"]}


def _in_order(files: Iterable[ClipFile]) -> list[ClipFile]:
    return sorted(files, key=lambda clip_file: (clip_file.samples, clip_file.view))


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in document.items()}


def _a_line_per_entry(document: Mapping[str, Any]) -> str:
    """Return the document as JSON in which each entry of a long list has a line of its own."""
    parts = []
    for key, value in document.items():
        if isinstance(value, list):
            entries = ",\n".join(f"  {json.dumps(entry, ensure_ascii=False)}" for entry in value)
            parts.append(f" {json.dumps(key)}: [\n{entries}\n ]" if value else f" {json.dumps(key)}: []")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
