"""Check the results of the ais_bench processes against their input, and merge those of several.

A run is complete when every process ended with code 0 and wrote a summary, the summary lists each input file exactly
once and nothing else, and every output that it lists exists and is not empty. ais_bench itself overwrites outputs of
the same name, leaves incomplete outputs without a summary after a crash, and reports neither.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infer.batches.batch_plan import PURE_NAME
from infer.batches.run_folder import RunFolder
from infer.engines.ascend.parts import Part
from vidom.errors import BadDataError, ExternalToolError
from vidom.files import write_text
from vidom.folder_lock import LOCK_NAME
from vidom.formats.engine_outputs import ResultFile, output_stem, read_summary, time_statistics

__all__ = ["PartResult", "compute_times", "merge_parts", "read_part"]

_NAMED = 10
_COPIES = ("H2D_latency", "D2H_latency")


@dataclass(frozen=True)
class PartResult:
    """The results of one process: the entries of its summary and the complete document."""

    part: Part
    entries: tuple[ResultFile, ...]
    summary: Mapping[str, Any]


def read_part(part: Part) -> PartResult:
    """Return the results of a part after checking that they are complete.

    Raises ExternalToolError that names what is missing, and what was left.
    """
    path = part.summary
    if path is None:
        raise ValueError("a part without an output folder does not have results")
    if not path.is_file():
        raise ExternalToolError(
            f"ais_bench ended with code 0 but wrote no summary {path}, so its run is incomplete. {left_behind(part)}"
        )
    try:
        entries, document = read_summary(path)
        result = PartResult(part, entries, document)
        fault = _fault(result)
        compute_times(document)
    except (BadDataError, KeyError, TypeError, ValueError) as error:
        fault = f"its summary {path} cannot be used ({error})"
    if fault:
        raise ExternalToolError(f"ais_bench ended with code 0, but {fault}. {left_behind(part)}")
    return result


def _fault(result: PartResult) -> str:
    expected = [output_stem(entry[0].path) for entry in result.part.entries] or [PURE_NAME]
    found = Counter(output_stem(entry.infiles[0]) for entry in result.entries)
    twice = [stem for stem, count in found.items() if count > 1]
    absent = [stem for stem in expected if stem not in found]
    unknown = sorted(set(found) - set(expected))
    for stems, words in (
        (absent, "leaves out"),
        (twice, "lists twice"),
        (unknown, "lists as unknown"),
    ):
        if stems:
            return f"its summary {words} {len(stems)} of {len(expected)} inputs: {_some(stems)}"
    outputs = [path for entry in result.entries for path in entry.outfiles]
    lost = [path for path in outputs if not _exists(path)]
    if lost or not all(entry.outfiles for entry in result.entries):
        return f"{len(lost)} of its {len(outputs)} outputs are missing or empty: {_some(lost)}"
    several = [path for path, count in Counter(outputs).items() if count > 1]
    return f"several inputs wrote the same output: {_some(several)}" if several else ""


def _exists(path: str) -> bool:
    return Path(path).is_file() and Path(path).stat().st_size > 0


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def left_behind(part: Part) -> str:
    """Return what a failed part has left, as sentences."""
    if part.outputs is None:
        return ""
    found = part.outputs.iterdir() if part.outputs.is_dir() else ()
    count = sum(path.is_file() and path.name != LOCK_NAME for path in found)
    asked = f" for {len(part.entries)} inputs" if part.entries else ""
    kept = (
        f"{count} output files{asked} are in {part.outputs}; they are kept, but are not results."
        if count
        else "It wrote no outputs; those of an earlier run, if there was one, are as they were."
    )
    return f"{kept} All that was printed is in {part.log}."


def compute_times(document: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the execution times in ms of a summary; some versions write each as its start and end."""
    times = document["npu_compute_time_list"]
    return tuple(float(time[1]) - float(time[0]) if isinstance(time, list) else float(time) for time in times)


def merge_parts(
    results: Sequence[PartResult], places: RunFolder, *, args: Sequence[str], own: Mapping[str, Any]
) -> None:
    """Move all outputs to the run's folder and write a summary that lists each input once, as of a single device.

    The inputs are listed by their own paths, not by those of the links. Times are merged: lists are concatenated,
    `throughput` is the sum over the devices, as ais_bench prints it; for the copies, of which only statistics are
    known, median and percentile are null. The summary of each device's process stays in the folder; the paths in it
    are those before the move.
    """
    files = [
        (file.path, [_moved(Path(outfile), places) for outfile in entry.outfiles])
        for result in results
        for (file,), entry in zip(result.part.entries, _in_order(result), strict=True)
    ]
    for result in results:
        if result.part.outputs is not None and not any(result.part.outputs.iterdir()):
            result.part.outputs.rmdir()
    summaries = [result.summary for result in results]
    times = [time for summary in summaries for time in compute_times(summary)]
    document = {
        "filesinfo": {
            str(number): {"infiles": [infile], "outfiles": outfiles}
            for number, (infile, outfiles) in enumerate(files)
        },
        "args": list(args),
        "NPU_compute_time": time_statistics(times),
        **{name: _merged_statistics([summary[name] for summary in summaries]) for name in _COPIES},
        "npu_compute_time_list": times,
        "throughput": sum(summary["throughput"] for summary in summaries),
        "pid": summaries[0]["pid"],
        "vidom": dict(own),
    }
    write_text(places.summary, json.dumps(document))


def _in_order(result: PartResult) -> list[ResultFile]:
    by_stem = {output_stem(entry.infiles[0]): entry for entry in result.entries}
    return [by_stem[output_stem(entry[0].path)] for entry in result.part.entries]


def _moved(outfile: Path, places: RunFolder) -> str:
    outfile.replace(places.folder / outfile.name)
    return f"{places.prefix}/{outfile.name}"


def _merged_statistics(statistics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    count = sum(one["count"] for one in statistics)
    return {
        "min": min(one["min"] for one in statistics),
        "max": max(one["max"] for one in statistics),
        "mean": sum(one["mean"] * one["count"] for one in statistics) / count,
        "median": None,
        "percentile(99%)": None,
        "count": count,
    }
