"""The writing side of the clip store: file by file, resumable, the same bytes however often it was killed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vidom.clip_store import SCHEMA_VERSION, ClipFile, ClipStore, Sample, Skipped, StoreHeader, load_record
from vidom.errors import UsageError
from vidom.files import TEMP_SUFFIX, append_line, read_json_lines, write_json, write_text

__all__ = ["ClipStoreWriter"]


class ClipStoreWriter:
    """Writes a store file by file so that a killed run, started again, ends with the same bytes.

    Finished files are recorded in a journal; `finished` names the list positions that need no more work.
    Raises UsageError when `folder` already holds a store made with other settings.
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
        """The list positions whose outcome (written or skipped) is on disk already."""
        return {*self.samples, *self.skipped}

    def file_name(self, position: int) -> str:
        """Return the dot-free, zero-padded name of the file that holds this list position."""
        return f"{position // self.header.samples_per_file:06d}.bin"

    def add(self, clip_file: ClipFile | None, samples: Sequence[Sample], skipped: Sequence[Skipped]) -> None:
        """Record one finished group of list positions; its file, if any sample was good, is on disk."""
        record = {
            "file": asdict(clip_file) if clip_file else None,
            "samples": [asdict(sample) for sample in samples],
            "skipped": [asdict(skip) for skip in skipped],
        }
        append_line(self._journal, record)
        self._remember(record)

    def finish(self, labels: Sequence[str], info_name: str) -> None:
        """The manifest and the `.info` list are on disk; the journal and leftovers are gone."""
        self._journal.close()
        manifest = {
            "version": SCHEMA_VERSION,
            **asdict(self.header),
            "samples": [asdict(self.samples[index]) for index in sorted(self.samples)],
            "skipped": [asdict(self.skipped[index]) for index in sorted(self.skipped)],
            "files": [asdict(self.files[name]) for name in sorted(self.files)],
            "labels": list(labels),
        }
        info = "".join(f"{index} {self.samples[index].label}\n" for index in sorted(self.samples))
        write_text(self.folder / info_name, info)
        write_json(self.folder / "manifest.json", manifest, indent=1)
        self._journal_path.unlink()

    def _resume(self) -> None:
        first, *records = read_json_lines(self._journal_path) or [None]
        manifest = self.folder / "manifest.json"
        if first is None and manifest.exists():
            self._reopen(ClipStore.open(self.folder))
            return
        wanted = _plain(asdict(self.header))
        if first is not None and first != wanted:
            raise self._other_settings(first)
        for leftover in self.clips.glob(f"*{TEMP_SUFFIX}"):
            leftover.unlink()
        # The journal is written anew, so that a line torn by the kill is not left in its middle.
        self._journal = self._journal_path.open("w", encoding="utf-8")
        append_line(self._journal, wanted)
        for record in records:
            name = record["file"] and record["file"]["name"]
            if not name or _has_size(self.clips / name, self.header.file_bytes):
                append_line(self._journal, record)
                self._remember(record)

    def _reopen(self, store: ClipStore) -> None:
        if store.header != self.header:
            raise self._other_settings(asdict(store.header))
        self._journal = self._journal_path.open("w", encoding="utf-8")
        append_line(self._journal, _plain(asdict(self.header)))
        for clip_file in store.files:
            if _has_size(self.clips / clip_file.name, self.header.file_bytes):
                self.add(clip_file, [store.samples[index] for index in clip_file.samples], [])
        for skip in store.skipped:
            self.add(None, [], [skip])

    def _other_settings(self, found: Mapping[str, Any]) -> UsageError:
        wanted = _plain(asdict(self.header))
        differing = [key for key in wanted if found.get(key) != wanted[key]]
        details = "; ".join(f"{key} {found.get(key)!r} there, {wanted[key]!r} asked for" for key in differing)
        return UsageError(
            f"{self.folder} already holds a clip store made with other settings ({details}). Choose another "
            "--output_dir, or delete that folder first."
        )

    def _remember(self, record: Mapping[str, Any]) -> None:
        if record["file"]:
            clip_file = load_record(ClipFile, record["file"])
            self.files[clip_file.name] = clip_file
        self.samples |= {entry["index"]: load_record(Sample, entry) for entry in record["samples"]}
        self.skipped |= {entry["index"]: load_record(Skipped, entry) for entry in record["skipped"]}


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in document.items()}
