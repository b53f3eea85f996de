"""What the processes of ais_bench left, held against what they were given, and several made one.

A run is whole when every process ended with code 0, wrote a summary, that summary names each file it was given once
and nothing else, and every output that it names is there and not empty. ais_bench itself overwrites outputs of one
name, leaves half of them without a summary after a crash, and calls both nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infer.batches.inputs import PURE_NAME
from infer.batches.run_folder import RunFolder
from infer.engines.ascend.parts import Part
from vidom.errors import BadDataError, ExternalToolError
from vidom.files import write_text
from vidom.formats.engine_outputs import ResultFile, output_stem, read_summary, time_statistics

__all__ = ["PartResult", "compute_times", "merge_parts", "read_part"]

_NAMED = 10
_COPIES = ("H2D_latency", "D2H_latency")


@dataclass(frozen=True)
class PartResult:
    """What one process wrote: the entries of its summary and the whole of it."""

    part: Part
    entries: tuple[ResultFile, ...]
    summary: Mapping[str, Any]


def read_part(part: Part) -> PartResult:
    """Return what the process wrote for its part, which is whole.

    Raises ExternalToolError that names what is missing, and what lies there all the same.
    """
    path = part.summary
    if path is None:
        raise ValueError("a part without an output folder has no results")
    if not path.is_file():
        raise ExternalToolError(
            f"ais_bench ended with code 0 but wrote no summary {path}, so its run is not whole. {left_behind(part)}"
        )
    try:
        entries, document = read_summary(path)
        result = PartResult(part, entries, document)
        fault = _fault(result)
        compute_times(document)
    except (BadDataError, KeyError, TypeError, ValueError) as error:
        fault = f"its summary {path} can not be used ({error})"
    if fault:
        raise ExternalToolError(f"ais_bench ended with code 0, but {fault}. {left_behind(part)}")
    return result


def _fault(result: PartResult) -> str:
    wanted = [output_stem(entry[0].path) for entry in result.part.entries] or [PURE_NAME]
    found = Counter(output_stem(entry.infiles[0]) for entry in result.entries)
    twice = [stem for stem, count in found.items() if count > 1]
    absent = [stem for stem in wanted if stem not in found]
    strange = sorted(set(found) - set(wanted))
    for stems, words in (
        (absent, "leaves out"),
        (twice, "names twice"),
        (strange, "names, without being asked,"),
    ):
        if stems:
            return f"its summary {words} {len(stems)} of {len(wanted)} inputs: {_some(stems)}"
    outputs = [path for entry in result.entries for path in entry.outfiles]
    lost = [path for path in outputs if not _is_there(path)]
    if lost or not all(entry.outfiles for entry in result.entries):
        return f"{len(lost)} of its {len(outputs)} outputs are missing or empty: {_some(lost)}"
    several = [path for path, count in Counter(outputs).items() if count > 1]
    return f"several inputs wrote the same output: {_some(several)}" if several else ""


def _is_there(path: str) -> bool:
    return Path(path).is_file() and Path(path).stat().st_size > 0


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def left_behind(part: Part) -> str:
    """Return what a part that failed has left, as sentences."""
    if part.outputs is None:
        return ""
    there = sum(path.is_file() for path in part.outputs.iterdir()) if part.outputs.is_dir() else 0
    asked = f" for {len(part.entries)} inputs" if part.entries else ""
    return (
        f"{there} output files{asked} lie in {part.outputs}; they are kept, and are no result. All that was printed is "
        f"in {part.log}."
    )


def compute_times(document: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the execution times in ms of a summary; some versions write each as its start and end."""
    times = document["npu_compute_time_list"]
    return tuple(float(time[1]) - float(time[0]) if isinstance(time, list) else float(time) for time in times)


def merge_parts(
    results: Sequence[PartResult], places: RunFolder, *, args: Sequence[str], own: Mapping[str, Any]
) -> None:
    """All outputs lie in the run's folder and its summary names each input once, as if one device had run them.

    The inputs are named by their own paths, not by those of the links. Times are put together: lists one after the
    other, `throughput` the sum of the devices', as ais_bench prints it; of the copies, of which only statistics are
    known, median and percentile are null. What each device's process wrote stays in the folder, its paths being those
    of the time.
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
        **{name: _together([summary[name] for summary in summaries]) for name in _COPIES},
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


def _together(statistics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    count = sum(one["count"] for one in statistics)
    return {
        "min": min(one["min"] for one in statistics),
        "max": max(one["max"] for one in statistics),
        "mean": sum(one["mean"] * one["count"] for one in statistics) / count,
        "median": None,
        "percentile(99%)": None,
        "count": count,
    }
