"""The writing side of the clip store: file by file, resumable, the same bytes however often it was killed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from vidom.errors import BadDataError, UsageError
from vidom.files import TEMP_SUFFIX, crc32_file, encode_json, write_bytes, write_text
from vidom.folder_lock import LOCK_NAME
from vidom.formats.clip_store import (
    SCHEMA_VERSION,
    ClipFile,
    ClipStore,
    Packed,
    Sample,
    Skipped,
    StoreHeader,
    load_record,
)
from vidom.journals import append_line, open_journal, read_json_lines
from vidom.progress import progress
from vidom.wording import shown, some

__all__ = ["ClipStoreWriter"]


class ClipStoreWriter:
    """Writes a store file by file so that a killed run, started again, ends with the same bytes.

    Finished files are recorded in a journal; `finished` names the list positions that need no more work: those whose
    files still have their checksums. What was skipped is tried again, since the video may have been repaired in the
    meantime. Lock the folder around it. Raises UsageError when `folder` already holds a store made with different
    settings, or anything but a store; nothing is changed then.
    """

    def __init__(self, folder: Path, header: StoreHeader) -> None:
        self.folder = folder
        self.header = header
        self.clips = folder / "clips"
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

    def add(self, packed: Packed) -> None:
        """Record one finished group of list positions; its files, if any sample was readable, are written."""
        append_line(self._journal, asdict(packed))
        self._remember(packed)

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
        write_bytes(self.folder / "manifest.json", encode_json(_a_line_per_entry(manifest)))
        self._journal_path.unlink()
        self._remove_leftovers()

    def _resume(self) -> None:
        """Take over the groups that an earlier run finished without skipping anything."""
        wanted = _plain(asdict(self.header))
        header, groups = self._earlier()
        if header and header != wanted:
            raise self._other_settings(header)
        complete = []
        with progress(total=len(groups), unit="group", label="check finished files") as bar:
            for group in groups:
                if self._is_complete(group):
                    complete.append(group)
                    self._remember(group)
                bar.update()
        self._journal = open_journal(self._journal_path, [wanted, *map(asdict, complete)])
        self.clips.mkdir(exist_ok=True)
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        for leftover in self.clips.glob(f"*.bin.*{TEMP_SUFFIX}"):
            leftover.unlink()

    def _earlier(self) -> tuple[Any, list[Packed]]:
        """Return the header and the groups of an earlier run; no header where there was none."""
        if self._journal_path.exists():
            header, *records = read_json_lines(self._journal_path) or [None]
            return header, [group for group in map(_packed, records) if group]
        try:
            store = ClipStore.open(self.folder)
        except BadDataError:
            self._refuse_foreign()
            return None, []
        incomplete = {self.file_name(skip.index) for skip in store.skipped}
        # The views of one sample were recorded together.
        groups = groupby(_in_order(store.files), key=lambda clip_file: clip_file.samples)
        return _plain(asdict(store.header)), [
            Packed(files, tuple(store.samples[index] for index in files[0].samples), ())
            for files in (tuple(group) for _, group in groups)
            if files[0].name not in incomplete
        ]

    def _refuse_foreign(self) -> None:
        found = [path.name for path in self.folder.iterdir()] if self.folder.exists() else []
        # A run that was killed before it had a journal leaves the temporary one.
        ours = f"{self._journal_path.name}."
        foreign = sorted(name for name in found if name != LOCK_NAME and not name.startswith(ours))
        if foreign:
            raise UsageError(
                f"{self.folder} is not empty and holds no intact clip store, but {some(map(shown, foreign))}. Nothing "
                "was changed; choose a different --output_dir."
            )

    def _is_complete(self, group: Packed) -> bool:
        held = {index for clip_file in group.files for index in clip_file.samples}
        if group.skipped or held != {sample.index for sample in group.samples}:
            return False
        return len(group.files) == self.header.views_per_sample and all(
            clip_file.samples
            and clip_file.name == self.file_name(clip_file.samples[0], clip_file.view)
            and (path := self.clips / clip_file.name).is_file()
            and path.stat().st_size == clip_file.bytes == self.header.file_bytes
            and crc32_file(path) == clip_file.crc32
            for clip_file in group.files
        )

    def _other_settings(self, found: Any) -> UsageError:
        wanted = _plain(asdict(self.header))
        there = found if isinstance(found, Mapping) else {}
        differing = [key for key in wanted if there.get(key) != wanted[key]]
        details = "; ".join(
            f"{key} {shown(repr(there.get(key)))} there, {wanted[key]!r} requested" for key in differing
        )
        return UsageError(
            f"{self.folder} already holds a clip store made with different settings ({details}). Choose a different "
            "--output_dir, or delete that folder first."
        )

    def _remember(self, group: Packed) -> None:
        self.files |= {clip_file.name: clip_file for clip_file in group.files}
        self.samples |= {sample.index: sample for sample in group.samples}
        self.skipped |= {skip.index: skip for skip in group.skipped}


def _packed(document: Any) -> Packed | None:
    """Return the group that a line of a journal records, None for a damaged one."""
    kinds: tuple[tuple[str, Any], ...] = (("files", ClipFile), ("samples", Sample), ("skipped", Skipped))
    try:
        return Packed(*(tuple(load_record(kind, entry) for entry in document[key]) for key, kind in kinds))
    except (KeyError, TypeError):
        return None


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
