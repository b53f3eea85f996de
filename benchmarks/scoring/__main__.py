"""How fast results become an accuracy, against ModelZoo's way: `python -m benchmarks.scoring`.

ModelZoo's way runs under the numpy that is installed here. With `--modelzoo_python` it also runs under that of its own
environment, Python 3.7 and numpy 1.21, whose `np.loadtxt` was not yet written in C.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring.memory import peak_rss
from benchmarks.measuring.report import Bar, Report, Table, check_plotting, write_report
from benchmarks.measuring.rotation import rotate
from benchmarks.measuring.settings import machine_state, under_fair_settings
from benchmarks.scoring import modelzoo_scorer
from benchmarks.scoring.result_files import DrawnResults, draw_results
from postprocess.score import ScoreOptions, score
from vidom.command import Parser, run
from vidom.errors import CheckFailedError, ExitCode, ExternalToolError, UsageError
from vidom.formats.engine_outputs import OUTPUT_FORMATS
from vidom.formats.output_groups import read_outputs

__all__ = ["main", "scoring"]

_log = logging.getLogger(__name__)

LOADTXT, BARE = "np.loadtxt on each file", "files read, nothing parsed"
WANTED = 20.0
KEPT = 4.0
_AT_ONCE = 256
Ways = dict[str, Callable[[], object]]

_READING_NOTE = (
    "vidom reads the same numbers from the texts, digit by digit. The last row opens and reads the files and parses "
    "nothing: no reader of single files can be faster, so its last cell is the largest ratio there can be."
)
_SCORING_NOTE = (
    "From the summary and the list of labels to top-1 and top-5. vidom also matches results and samples by name, "
    "refuses what is missing, double or not finite, and writes metrics.json with confusion and intervals."
)


def scoring(
    *,
    output_dir: Path,
    samples: int = 24_777,
    classes: int = 174,
    rounds: int = 3,
    modelzoo_python: str | None = None,
) -> Report:
    """`output_dir` holds `scoring.md`, `.json` and `.png`: time and memory of reading and of scoring drawn results.

    Raises CheckFailedError when the texts are read as other numbers than `np.loadtxt` reads, ExternalToolError when
    `modelzoo_python` does not run ModelZoo's way.
    """
    if samples < 10 or classes < 5:
        raise UsageError(f"Scoring needs 10 samples and 5 classes, found {samples} and {classes}.")
    check_plotting()
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir) as folder, _old_scorer(modelzoo_python) as old:
        _log.info(f"drawing {samples} results in three formats …")
        drawn = draw_results(Path(folder), samples=samples, classes=classes)
        _check_equal(drawn)
        _log.info(f"{rounds} rounds …")
        reading = rotate(_reading_ways(drawn, old), rounds=rounds)
        sizes = sorted({*(size for size in (10, 100, 1000, 10_000) if size < samples), samples})
        times = {size: rotate(_scoring_ways(drawn, size, old), rounds=rounds) for size in sizes}
        _log.info("memory …")
        memory = {size: _peaks(drawn, size) for size in sizes}
    report = _report(drawn, reading, times, memory, rounds)
    write_report(report, output_dir, plot=partial(_plot, times=times, memory=memory))
    return report


@contextmanager
def _old_scorer(python: str | None) -> Iterator[tuple[str, Callable[..., None]] | None]:
    """Yield what the interpreter is, and a function that has it work on files; its start is no part of the work."""
    if python is None:
        yield None
        return
    with subprocess.Popen(
        [python, modelzoo_scorer.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def answer() -> str:
            line = process.stdout.readline().strip() if process.stdout else ""
            if not line:
                raise ExternalToolError(f"{python} does not run {modelzoo_scorer.__file__}; it needs numpy.")
            return line

        def work(*files: Path) -> None:
            if process.stdin:
                process.stdin.write("\t".join(map(str, files)) + "\n")
                process.stdin.flush()
            answer()

        try:
            yield answer(), work
        finally:
            process.kill()


def _reading_ways(drawn: DrawnResults, old: tuple[str, Callable[..., None]] | None) -> Ways:
    summary = drawn.summary("TXT", drawn.samples)
    ways: Ways = {LOADTXT: partial(modelzoo_scorer.read_texts, summary)}
    if old:
        ways[f"{LOADTXT}, {old[0]}"] = partial(old[1], summary)
    ways |= {
        f"vidom, {outfmt}": partial(_read, drawn.paths(outfmt), drawn.classes) for outfmt in OUTPUT_FORMATS
    }
    return ways | {BARE: partial(_read_bytes, drawn.paths("TXT"))}


def _scoring_ways(drawn: DrawnResults, samples: int, old: tuple[str, Callable[..., None]] | None) -> Ways:
    info, summary = drawn.info(samples), drawn.summary("TXT", samples)
    ways: Ways = {"ModelZoo's way, TXT": partial(modelzoo_scorer.score_texts, summary, info)}
    if old:
        ways[f"ModelZoo's way, TXT, {old[0]}"] = partial(old[1], summary, info)
    for outfmt in OUTPUT_FORMATS:
        ways[f"vidom, {outfmt}"] = partial(
            score,
            ScoreOptions(
                result_path=drawn.summary(outfmt, samples), info_path=info, num_classes=drawn.classes
            ),
        )
    return ways


def _read(paths: Sequence[str], classes: int) -> None:
    for first in range(0, len(paths), _AT_ONCE):
        read_outputs(paths[first : first + _AT_ONCE], classes=classes)


def _read_bytes(paths: Sequence[str]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.read(descriptor, 1 << 16)
        os.close(descriptor)


def _check_equal(drawn: DrawnResults) -> None:
    paths = drawn.paths("TXT")[:1000]
    if not np.array_equal(np.concatenate(read_outputs(paths)), [np.loadtxt(path) for path in paths]):
        raise CheckFailedError("vidom reads other numbers from the texts than np.loadtxt does.")


def _peaks(drawn: DrawnResults, samples: int) -> tuple[int, int]:
    """Return the peak bytes of vidom's scorer and of ModelZoo's way, each in a process of its own."""
    summary, info = str(drawn.summary("TXT", samples)), str(drawn.info(samples))
    ours = [sys.executable, "-m", "postprocess.score", "--result_path", summary, "--info_path", info]
    theirs = f"from benchmarks.scoring.modelzoo_scorer import score_texts as s; s({summary!r}, {info!r})"
    return peak_rss(ours), peak_rss([sys.executable, "-c", theirs])


def _report(
    drawn: DrawnResults,
    reading: dict[str, float],
    times: dict[int, dict[str, float]],
    memory: dict[int, tuple[int, int]],
    rounds: int,
) -> Report:
    most = max(memory)
    few = max(size for size in memory if size < most and size <= 1000)
    kept = 4 * drawn.classes
    grown = (memory[most][0] - memory[few][0]) / (most - few)
    bars = [
        Bar(f"reading {most} TXT, times {way}", seconds / reading["vidom, TXT"], WANTED)
        for way, seconds in reading.items()
        if way.startswith(LOADTXT)
    ]
    bars.append(
        Bar("memory for each further result, times its scores in float32", grown / kept, KEPT, at_least=False)
    )
    growth = [
        (size, *found.values(), *(peak / 1e6 for peak in memory[size])) for size, found in times.items()
    ]
    return Report(
        name="scoring",
        question="How fast do an engine's results become an accuracy, and how much memory does that take?",
        tables=[
            _speeds("Reading", reading, most, _READING_NOTE),
            _speeds("Reading and scoring", times[most], most, _SCORING_NOTE),
            Table(
                "Growth",
                ["results", *(f"{way}, s" for way in times[most]), "vidom, MB", "ModelZoo's way, MB"],
                growth,
                f"MB: the peak of a fresh process that scores TXT. The scores of a result are {kept} bytes in float32; "
                f"memory grows by {grown:.0f} bytes for each, which is those, what the metrics count in passing, and "
                "the names of its files. Nothing else that was read stays.",
            ),
        ],
        bars=bars,
        conditions={"rounds": rounds, "classes": drawn.classes, **machine_state()},
    )


def _speeds(title: str, seconds: dict[str, float], files: int, note: str) -> Table:
    first = next(iter(seconds.values()))
    rows = [(way, spent, spent / files * 1e6, first / spent) for way, spent in seconds.items()]
    return Table(title, ["way", "s", "µs a file", "times the first row"], rows, note)


def _plot(figure: Any, *, times: dict[int, dict[str, float]], memory: dict[int, tuple[int, int]]) -> None:
    speed, space = figure.subplots(1, 2)
    for way in next(iter(times.values())):
        speed.plot(list(times), [found[way] for found in times.values()], marker="o", label=way)
    for name, peaks in zip(("vidom", "ModelZoo's way"), zip(*memory.values(), strict=True), strict=True):
        space.plot(list(memory), [peak / 1e6 for peak in peaks], marker="o", label=f"{name}, TXT")
    speed.set(xscale="log", yscale="log", xlabel="results", ylabel="seconds", title="reading and scoring")
    space.set(xlabel="results", ylabel="MB at the peak", title="memory", ylim=(0, None))
    for axes in (speed, space):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=6, loc="best")


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Read the command line, measure, print the report; 1 if a bar is missed."""
    parser = Parser(prog="python -m benchmarks.scoring", description="Time and memory of scoring.")
    add = parser.add_argument
    add("--output_dir", type=Path, default=Path("run/bench"), help="where report and picture go")
    add("--samples", type=int, default=24_777, help="results to score; Something-Something V2 has 24,777")
    add("--classes", type=int, default=174, help="scores of a result")
    add("--rounds", type=int, default=3, help="how often each way takes its turn")
    add("--modelzoo_python", help="an interpreter with ModelZoo's own numpy, such as Python 3.7 with 1.21")
    report = scoring(**vars(parser.parse_args(argv)))
    print(report.text, end="")
    return report.exit_code


if __name__ == "__main__":
    under_fair_settings()
    run(main)
