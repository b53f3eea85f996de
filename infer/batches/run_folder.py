"""The files of one run, and which of them we may remove.

{output}/{dirname}/                  the outputs
{output}/{dirname}/.earlier/         the results of an earlier run, until ais_bench has written outputs of its own
{output}/{dirname}_summary.json      ais_bench's summary; written last, it marks the run as complete
{output}/{dirname}_vidom.json        our facts about a run of ais_bench, whose own summary stays as it wrote it
{output}/{dirname}_ais_bench.log     all that ais_bench printed
{output}/{dirname}.journal.jsonl     present while a run is unfinished
"""

from __future__ import annotations

import glob
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidom.bounded_reading import read_json
from vidom.errors import BadDataError, UsageError
from vidom.files import TEMP_SUFFIX, write_text
from vidom.folder_lock import LOCK_NAME
from vidom.formats.engine_outputs import summary_path
from vidom.journals import read_json_lines

__all__ = ["RunFolder"]

_OUTPUT_NAME = re.compile(rf".*_\d+\.(bin|npy|txt)(\.\d+{re.escape(TEMP_SUFFIX)})?", re.DOTALL)
_DEVICE_SUMMARY = re.compile(r"device\d+_\d+_summary\.json")
_DEVICE_FOLDER = re.compile(r"device\d+_\d+")


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run; `prefix` is its folder as typed (`./res/out`), which is how the summary names outputs."""

    prefix: str
    folder: Path
    summary: Path
    facts: Path
    journal: Path

    @classmethod
    def of(cls, output: str, dirname: str) -> RunFolder:
        """Return the paths of the run `dirname` in `output`; nothing is created."""
        root = Path(output)
        return cls(
            prefix=f"{output.rstrip('/')}/{dirname}",  # pathlib would tidy it
            folder=root / dirname,
            summary=summary_path(root, dirname),
            facts=root / f"{dirname}_vidom.json",
            journal=root / f"{dirname}.journal.jsonl",
        )

    def log(self, device: int | None = None) -> Path:
        """Return the file for what ais_bench prints, on a single device or on one of several."""
        of_device = "" if device is None else f"_device{device}"
        return self.folder.with_name(f"{self.folder.name}_ais_bench{of_device}.log")

    def refuse_foreign(self) -> None:
        """Raise UsageError unless the folder is empty or ours.

        It is ours if its journal or summary has the key `vidom`, our facts are next to it, or results are kept in it.
        """
        occupied = self.summary.exists() or bool(self._files())
        if occupied and not self._is_ours():
            raise UsageError(
                f"{self.folder} already holds files that no vidom run wrote (its summary {self.summary.name} is "
                "missing or a different program's). Nothing was changed; choose a different --output_dirname."
            )

    def _is_ours(self) -> bool:
        if self.facts.exists() or self._earlier.exists():
            return True
        header: Any = next(iter(read_json_lines(self.journal)), None)
        if isinstance(header, dict) and "vidom" in header:
            return True
        try:
            summary = read_json(self.summary, what="result summary")
        except BadDataError:
            return False
        return isinstance(summary, dict) and "vidom" in summary

    def _files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {LOCK_NAME} if self.folder.exists() else set()

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """Keep the results of an earlier run while the block computes new ones; a journal marks it as unfinished.

        A block that fails before any output is written gives the earlier results back as they were; otherwise they are
        removed. What a killed process has left is settled first in the same way.
        """
        if self._earlier.exists():
            self._settle()
        self._earlier.mkdir(mode=0o700)
        for path in self._results():
            kept = self._earlier / path.relative_to(self.folder.parent)
            kept.parent.mkdir(parents=True, exist_ok=True)
            path.rename(kept)
        write_text(self.journal, '{"vidom": 1, "engine": "ascend"}\n')
        try:
            yield
        except BaseException:
            self._settle()
            raise
        shutil.rmtree(self._earlier)
        self.journal.unlink()

    def clear(self, *, keep: Collection[str] = ()) -> None:
        """Create the folder, or remove the results of an earlier run except the outputs in `keep`; other files stay."""
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._earlier, ignore_errors=True)
        for path in self._results():
            if path != self.journal and path.name not in keep:
                path.unlink()
        self._remove_empty()

    @property
    def _earlier(self) -> Path:
        return self.folder / ".earlier"

    def _settle(self) -> None:
        """Remove the earlier results if the run that replaces them has written any; otherwise put them back."""
        if self.journal.exists() and (self.summary.exists() or any(self._outputs())):
            shutil.rmtree(self._earlier)
            return
        self.journal.unlink(missing_ok=True)
        kept = sorted(path for path in self._earlier.rglob("*") if path.is_file())
        # What marks the run as complete is put back last. A log of the failed run stays.
        for path in sorted(kept, key=lambda path: path.parent == self._earlier):
            place = self.folder.parent / path.relative_to(self._earlier)
            place.parent.mkdir(exist_ok=True)
            if not place.exists():
                path.rename(place)
        shutil.rmtree(self._earlier)
        self._remove_empty()

    def _results(self) -> list[Path]:
        """Return the files of an earlier run, what marks it as complete first."""
        logs = self.folder.parent.glob(f"{glob.escape(self.folder.name)}_ais_bench*.log")
        marks = (path for path in (self.summary, self.facts, self.journal, *logs) if path.is_file())
        return [*marks, *self._outputs()]

    def _outputs(self) -> Iterator[Path]:
        for folder in (self.folder, *self._device_folders()):
            for path in folder.iterdir():
                ours = _OUTPUT_NAME.fullmatch(path.name) or _DEVICE_SUMMARY.fullmatch(path.name)
                if ours and path.is_file():
                    yield path

    def _device_folders(self) -> list[Path]:
        return [
            path
            for path in self.folder.iterdir()
            if _DEVICE_FOLDER.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
        ]

    def _remove_empty(self) -> None:
        for folder in self._device_folders():
            with suppress(OSError):
                folder.rmdir()
