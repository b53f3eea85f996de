"""Speed of scoring results, compared with ModelZoo's scorer: `python -m benchmarks.scoring`.

ModelZoo's scorer runs under the installed numpy. With `--modelzoo_python` it also runs under that of its own
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
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.measuring.interleaved import interleave
from benchmarks.measuring.memory import peak_rss
from benchmarks.measuring.report import Report, check_plotting, reported, write_report
from benchmarks.measuring.settings import under_fair_settings
from benchmarks.scoring import modelzoo_scorer
from benchmarks.scoring.result_files import SyntheticResults, write_results
from benchmarks.scoring.tables import BARE, LOADTXT, plot_scoring, report_scoring
from postprocess.score import ScoreOptions, score
from vidom.command import run
from vidom.errors import CheckFailedError, ExitCode, ExternalToolError, UsageError
from vidom.formats.engine_outputs import OUTPUT_FORMATS
from vidom.formats.output_groups import read_outputs
from vidom.options import option, read_options

__all__ = ["ScoringOptions", "main", "scoring"]

_log = logging.getLogger(__name__)

_AT_ONCE = 256
Variants = dict[str, Callable[[], object]]


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """Measure time and memory of scoring."""

    output_dir: Path = option("folder of the report and figure", default=Path("run/bench"))
    samples: int = option("results to score; Something-Something V2 has 24,777", default=24_777)
    classes: int = option("classes of a result", default=174)
    rounds: int = option("interleaved runs of each variant", default=3)
    modelzoo_python: str | None = option(
        "an interpreter with ModelZoo's own numpy, such as Python 3.7 with 1.21", default=None
    )

    def __post_init__(self) -> None:
        if self.samples < 10 or self.classes < 5:
            raise UsageError(
                f"Scoring needs 10 samples and 5 classes, not {self.samples} and {self.classes}."
            )


def scoring(options: ScoringOptions) -> Report:
    """Write `scoring.md`, `.json` and `.png`: time and memory of reading and scoring synthetic results.

    Returns the report. Raises CheckFailedError when the numbers read from the texts differ from `np.loadtxt`'s,
    ExternalToolError when `modelzoo_python` does not run ModelZoo's scorer.
    """
    output_dir, samples, rounds = options.output_dir, options.samples, options.rounds
    check_plotting()
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir) as folder, _old_scorer(options.modelzoo_python) as old:
        _log.info(f"writing {samples} synthetic results in three formats …")
        results = write_results(Path(folder), samples=samples, classes=options.classes)
        _check_equal(results)
        _log.info(f"{rounds} rounds …")
        reading = interleave(_reading_variants(results, old), rounds=rounds)
        sizes = sorted({*(size for size in (10, 100, 1000, 10_000) if size < samples), samples})
        times = {size: interleave(_scoring_variants(results, size, old), rounds=rounds) for size in sizes}
        _log.info("memory …")
        memory = {size: _peaks(results, size) for size in sizes}
    report = report_scoring(results, reading, times, memory, rounds)
    write_report(report, output_dir, plot=partial(plot_scoring, times=times, memory=memory))
    return report


@contextmanager
def _old_scorer(python: str | None) -> Iterator[tuple[str, Callable[..., None]] | None]:
    """Yield the interpreter's version and a function that lets it work on files; its start is not timed."""
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


def _reading_variants(results: SyntheticResults, old: tuple[str, Callable[..., None]] | None) -> Variants:
    summary = results.summary("TXT", results.samples)
    variants: Variants = {LOADTXT: partial(modelzoo_scorer.read_texts, summary)}
    if old:
        variants[f"{LOADTXT}, {old[0]}"] = partial(old[1], summary)
    variants |= {
        f"vidom, {outfmt}": partial(_read, results.paths(outfmt), results.classes)
        for outfmt in OUTPUT_FORMATS
    }
    return variants | {BARE: partial(_read_bytes, results.paths("TXT"))}


def _scoring_variants(
    results: SyntheticResults, samples: int, old: tuple[str, Callable[..., None]] | None
) -> Variants:
    info, summary = results.info(samples), results.summary("TXT", samples)
    variants: Variants = {"ModelZoo's scorer, TXT": partial(modelzoo_scorer.score_texts, summary, info)}
    if old:
        variants[f"ModelZoo's scorer, TXT, {old[0]}"] = partial(old[1], summary, info)
    for outfmt in OUTPUT_FORMATS:
        variants[f"vidom, {outfmt}"] = partial(
            score,
            ScoreOptions(
                result_path=results.summary(outfmt, samples), info_path=info, num_classes=results.classes
            ),
        )
    return variants


def _read(paths: Sequence[str], classes: int) -> None:
    for first in range(0, len(paths), _AT_ONCE):
        list(read_outputs(paths[first : first + _AT_ONCE], classes=classes))


def _read_bytes(paths: Sequence[str]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.read(descriptor, 1 << 16)
        os.close(descriptor)


def _check_equal(results: SyntheticResults) -> None:
    paths = results.paths("TXT")[:1000]
    if not np.array_equal(np.concatenate(list(read_outputs(paths))), [np.loadtxt(path) for path in paths]):
        raise CheckFailedError("The numbers that vidom reads from the texts differ from np.loadtxt's.")


def _peaks(results: SyntheticResults, samples: int) -> tuple[int, int]:
    """Return the peak bytes of vidom's scorer and of ModelZoo's scorer, each in a separate process."""
    summary, info = str(results.summary("TXT", samples)), str(results.info(samples))
    ours = [sys.executable, "-m", "postprocess.score", "--result_path", summary, "--info_path", info]
    theirs = f"from benchmarks.scoring.modelzoo_scorer import score_texts as s; s({summary!r}, {info!r})"
    return peak_rss(ours), peak_rss([sys.executable, "-c", theirs])


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Measure and print the report; 1 if a target is missed."""
    return reported(scoring, read_options(ScoringOptions, argv, prog="python -m benchmarks.scoring"))


if __name__ == "__main__":
    under_fair_settings()
    run(main)
