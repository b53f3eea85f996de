"""The report of `benchmarks.scoring`: tables, targets and a figure."""

from __future__ import annotations

from typing import Any

from benchmarks.measuring.report import Report, Table, Target
from benchmarks.measuring.settings import machine_state
from benchmarks.scoring.result_files import SyntheticResults

__all__ = ["BARE", "LOADTXT", "plot_scoring", "report_scoring"]

LOADTXT, BARE = "np.loadtxt on each file", "files read, not parsed"
SPEEDUP = 20.0
MEMORY = 4.0

_READING_NOTE = (
    "vidom reads exactly the same numbers from the texts. The last row opens and reads the files without parsing: no "
    "reader of single files can be faster, so its last cell is the upper bound of the speedup."
)
_SCORING_NOTE = (
    "From the summary and the list of labels to top-1 and top-5. vidom also matches results and samples by name, "
    "rejects missing, duplicate and non-finite results, and writes metrics.json with confusion and intervals."
)


def report_scoring(
    results: SyntheticResults,
    reading: dict[str, float],
    times: dict[int, dict[str, float]],
    memory: dict[int, tuple[int, int]],
    rounds: int,
) -> Report:
    """Return the report.

    Args:
        results: the synthetic results.
        reading: seconds by variant of reading all of them.
        times: seconds of scoring by number of results and variant.
        memory: peak bytes of vidom's and ModelZoo's scorer by number of results.
        rounds: interleaved runs of each variant.
    """
    most = max(memory)
    few = max(size for size in memory if size < most and size <= 1000)
    kept = 4 * results.classes
    grown = (memory[most][0] - memory[few][0]) / (most - few)
    targets = [
        Target(f"reading {most} TXT, speedup over {variant}", seconds / reading["vidom, TXT"], SPEEDUP)
        for variant, seconds in reading.items()
        if variant.startswith(LOADTXT)
    ]
    targets.append(
        Target(
            "memory per additional result, over its scores in float32", grown / kept, MEMORY, at_least=False
        )
    )
    scaling = [
        (size, *spent.values(), *(peak / 1e6 for peak in memory[size])) for size, spent in times.items()
    ]
    return Report(
        name="scoring",
        question="How long does it take to compute the accuracy from an engine's results, and how much memory?",
        tables=[
            _speeds("Reading", reading, most, _READING_NOTE),
            _speeds("Reading and scoring", times[most], most, _SCORING_NOTE),
            Table(
                "Scaling",
                [
                    "results",
                    *(f"{variant}, s" for variant in times[most]),
                    "vidom, MB",
                    "ModelZoo's scorer, MB",
                ],
                scaling,
                f"MB: the peak of a new process that scores TXT. The scores of a result are {kept} bytes in float32; "
                f"memory grows by {grown:.0f} bytes per result: the scores, temporary arrays of the metrics and the "
                "names of the files.",
            ),
        ],
        targets=targets,
        conditions={"rounds": rounds, "classes": results.classes, **machine_state()},
    )


def _speeds(title: str, seconds: dict[str, float], files: int, note: str) -> Table:
    first = next(iter(seconds.values()))
    rows = [(variant, spent, spent / files * 1e6, first / spent) for variant, spent in seconds.items()]
    return Table(title, ["variant", "s", "µs per file", "speedup over the first row"], rows, note)


def plot_scoring(
    figure: Any, *, times: dict[int, dict[str, float]], memory: dict[int, tuple[int, int]]
) -> None:
    """Plot time and memory of scoring by number of results."""
    speed, space = figure.subplots(1, 2)
    for variant in next(iter(times.values())):
        speed.plot(list(times), [spent[variant] for spent in times.values()], marker="o", label=variant)
    for name, peaks in zip(("vidom", "ModelZoo's scorer"), zip(*memory.values(), strict=True), strict=True):
        space.plot(list(memory), [peak / 1e6 for peak in peaks], marker="o", label=f"{name}, TXT")
    speed.set(xscale="log", yscale="log", xlabel="results", ylabel="seconds", title="reading and scoring")
    space.set(xlabel="results", ylabel="peak MB", title="memory", ylim=(0, None))
    for axes in (speed, space):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=6, loc="best")
