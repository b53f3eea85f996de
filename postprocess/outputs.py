"""The output file of each input file, from a summary or from the names in a result folder."""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidom.errors import BadDataError
from vidom.formats.engine_outputs import output_stem, read_summary, summary_path
from vidom.wording import some

__all__ = ["Output", "find_outputs", "metrics_path", "run_folder"]

_FIRST_OUTPUT = re.compile(r"(?P<stem>.+)_0\.(txt|npy|bin)", re.IGNORECASE)


@dataclass(frozen=True)
class Output:
    """The file with the scores of one input file, which `stem` names; `infile` is None where it is unknown."""

    stem: str
    infile: str | None
    folder: str
    name: str

    @property
    def path(self) -> str:
        """The path of the file; a string, because there are tens of thousands of them."""
        return f"{self.folder}/{self.name}"


def find_outputs(result_path: Path | str) -> tuple[Output, ...]:
    """Return the outputs of a run: existing files, one for each input file.

    `result_path` is a summary as ais_bench writes it, or a result folder. A folder's summary is its sibling
    `FOLDER_summary.json`; without one, as in ModelZoo's scripts, every `STEM_0.txt|npy|bin` in the folder counts
    and everything else (a stray summary, a model's further outputs) does not. Of a model with several outputs the
    first one holds the scores.

    A summary's paths are relative to the working directory of the run, which is not recorded. ais_bench always
    puts the output folder next to the summary, so files are looked for there first, then at the given path, but
    only under the current folder or the summary's.

    Raises BadDataError that names the missing or overwritten files.
    """
    result_path = Path(result_path).absolute()
    if not result_path.is_dir():
        return _from_summary(result_path)
    summary = summary_path(result_path.parent, result_path.name)
    return _from_summary(summary) if summary.is_file() else _from_folder(result_path)


def metrics_path(result_path: Path | str) -> Path:
    """Return the default path of a run's metrics: `NAME_metrics.json` next to folder and summary."""
    folder = run_folder(result_path)
    return folder.with_name(f"{folder.name}_metrics.json")


def run_folder(result_path: Path | str) -> Path:
    """Return the folder of a run, given it or its summary, next to which it is."""
    result_path = Path(result_path).absolute()
    return (
        result_path
        if result_path.is_dir()
        else result_path.with_name(result_path.stem.removesuffix("_summary"))
    )


def _from_summary(summary: Path) -> tuple[Output, ...]:
    entries, _ = read_summary(summary)
    empty = [entry.infiles[0] if entry.infiles else entry.key for entry in entries if not entry.outfiles]
    if empty:
        raise BadDataError(
            f"The summary {summary} names no output for {len(empty)} of its {len(entries)} entries: "
            f"{some(empty)}. Run the inference again."
        )
    written = Counter(entry.outfiles[0] for entry in entries)
    twice = [outfile for outfile, count in written.items() if count > 1]
    if twice:
        raise BadDataError(
            f"In the summary {summary} several inputs wrote the same output, so only the last one exists: "
            f"{some(twice)}. ais_bench cuts a name at its first dot: give the input files different names without "
            "dots and run the inference again."
        )
    places = [posixpath.split(entry.outfiles[0]) for entry in entries]
    folders = {given: str(_locate(given, summary)) for given in {folder for folder, _ in places}}
    outputs = tuple(
        Output(
            stem=output_stem(entry.infiles[0]) if entry.infiles else entry.key,
            infile=entry.infiles[0] if entry.infiles else None,
            folder=folders[folder],
            name=name,
        )
        for entry, (folder, name) in zip(entries, places, strict=True)
    )
    _check_present(outputs, summary)
    return outputs


def _locate(given: str, summary: Path) -> Path:
    name = posixpath.basename(posixpath.normpath(given)) if given else ""
    sibling = summary.parent / ("" if name in (".", "..") else name)
    if sibling.is_dir():
        return sibling
    # `Path.resolve` ends with RuntimeError where links form a loop.
    as_given = Path(os.path.realpath(given))
    allowed = any(as_given.is_relative_to(os.path.realpath(root)) for root in (Path.cwd(), summary.parent))
    return as_given if allowed and as_given.is_dir() else sibling


def _check_present(outputs: Sequence[Output], summary: Path) -> None:
    present = {folder: _files_in(folder) for folder in {output.folder for output in outputs}}
    missing = [output for output in outputs if output.name not in present[output.folder]]
    if missing:
        raise BadDataError(
            f"{len(missing)} of the {len(outputs)} output files that {summary} names are missing in "
            f"{missing[0].folder}: {some(output.name for output in missing)}. Put them back next to the summary, or "
            "run the inference again."
        )


def _files_in(folder: str) -> set[str]:
    """Return the names of the folder's files in one scan; a check of each file takes as long as reading it."""
    if not Path(folder).is_dir():
        return set()
    with os.scandir(folder) as entries:
        # `is_file` of an entry raises OSError where links form a loop.
        return {e.name for e in entries if e.is_file(follow_symlinks=False) or Path(e).is_file()}


def _from_folder(folder: Path) -> tuple[Output, ...]:
    outputs = tuple(
        Output(stem=match["stem"], infile=None, folder=str(folder), name=path.name)
        for path in sorted(folder.iterdir())
        if (match := _FIRST_OUTPUT.fullmatch(path.name))
    )
    if not outputs:
        raise BadDataError(
            f"The result folder {folder} holds no outputs: no file has a name like 000000_0.npy, .bin or .txt. "
            "Give the summary (NAME_summary.json) or the folder that the inference wrote."
        )
    stems = Counter(output.stem for output in outputs)
    twice = [stem for stem, count in stems.items() if count > 1]
    if twice:
        raise BadDataError(
            f"The result folder {folder} holds outputs in two formats for the same inputs: {some(twice)}. They "
            "are from two runs: give the summary of one of them as --result_path."
        )
    return outputs
