"""The files of one run, and which of them we may remove.

{output}/{dirname}/                  the outputs
{output}/{dirname}_summary.json      ais_bench's summary; written last, it marks the run as complete
{output}/{dirname}_vidom.json        our facts about a run of ais_bench, whose own summary stays as it wrote it
{output}/{dirname}_ais_bench.log     all that ais_bench printed
{output}/{dirname}.journal.jsonl     present while a run is unfinished
"""

from __future__ import annotations

import glob
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidom.errors import BadDataError, UsageError
from vidom.files import LOCK_NAME, TEMP_SUFFIX, read_json, read_json_lines
from vidom.formats.engine_outputs import summary_path

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

        It is ours if its journal or summary has the key `vidom`, or our facts are next to it.
        """
        occupied = self.summary.exists() or bool(self._files())
        if occupied and not self._is_ours():
            raise UsageError(
                f"{self.folder} already holds files that no vidom run wrote (its summary {self.summary.name} is "
                "missing or a different program's). Nothing was changed; choose a different --output_dirname."
            )

    def _is_ours(self) -> bool:
        if self.facts.exists():
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

    def clear(self, *, keep: Collection[str] = ()) -> None:
        """Create the folder, or remove the outputs of an earlier run except those in `keep`; other files stay.

        Whatever marks the run as complete is removed first.
        """
        logs = self.folder.parent.glob(f"{glob.escape(self.folder.name)}_ais_bench*.log")
        for path in (self.summary, self.facts, *logs):
            path.unlink(missing_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._clear_folder(self.folder, keep)
        for device in self.folder.iterdir():
            if _DEVICE_FOLDER.fullmatch(device.name) and device.is_dir() and not device.is_symlink():
                self._clear_folder(device, ())
                if not any(device.iterdir()):
                    device.rmdir()

    @staticmethod
    def _clear_folder(folder: Path, keep: Collection[str]) -> None:
        for path in folder.iterdir():
            stale = _OUTPUT_NAME.fullmatch(path.name) or _DEVICE_SUMMARY.fullmatch(path.name)
            if stale and path.name not in keep and path.is_file():
                path.unlink()
