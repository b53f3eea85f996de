"""Overlap of decoding and engine, and memory of an evaluation: `python -m benchmarks.evaluation`.

The demo's synthetic videos and its small network, where decoding is the slower stage, and the network of tsm_sthv2
with random weights, where the engine is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.evaluation.stage_times import (
    Case,
    StageTimes,
    build,
    command,
    demo_case,
    repeated,
    stage_times,
)
from benchmarks.measuring.memory import peak_rss
from benchmarks.measuring.report import Report, Table, Target, check_plotting, reported, write_report
from benchmarks.measuring.settings import machine_state, under_fair_settings
from benchmarks.packing.variants import frame_folders
from vidom.bounded_reading import read_json
from vidom.command import run
from vidom.errors import ExitCode, UsageError
from vidom.formats.recipe import load_recipe
from vidom.options import option, read_options
from vidom.system.machine import usable_cores

__all__ = ["EvaluationOptions", "evaluation", "main"]

_log = logging.getLogger(__name__)

HEAVY = "tsm_sthv2"
OVERLAP = 1.10
# Python's heap and the list grow slightly; keeping a tensor for each sample would take 393 kB.
MEMORY = 1.05
RESULTS = {"record.jsonl", "metrics.json", "evaluation.json"}
# ONNX Runtime 1.31 writes an identifier of 51 bytes to the folder of temporary files when it is imported.
_OF_ONNX_RUNTIME = ".ses"

_STAGES_NOTE = (
    "Milliseconds per sample, fastest of interleaved rounds; the decoding processes are running before timing starts. "
    "With one core per stage, the combined time should be that of the slower stage. With all cores for each stage they "
    "cannot overlap: the lower bound is then the sum of both, unless one stage is small."
)
_SCALING_NOTE = (
    "`python -m infer.evaluate` on lists that repeat the demo's samples: seconds from the start of the decoding "
    "processes (about half a second) to the last row; peak resident memory of the largest process."
)


@dataclass(frozen=True)
class _Scaling:
    """Seconds and peak bytes by number of samples, and the number of leftover non-result files."""

    seconds: Mapping[int, float]
    peaks: Mapping[int, int]
    left: int


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Compare an evaluation with its two stages, decoding and engine, alone."""

    output_dir: Path = option("folder of the report and figure", default=Path("run/bench"))
    frames: tuple[Path, ...] = option(
        "folders of extracted frames for the large network (default: the demo's)", default=()
    )
    rounds: int = option("interleaved runs of each stage", default=3)
    samples: int = option("samples of the demo in each run", default=400)
    heavy_samples: int = option("samples of the large network in each run", default=12)
    largest: int = option("largest number of samples in the scaling table", default=1000)

    def __post_init__(self) -> None:
        if min(self.samples, self.heavy_samples) < 1 or self.largest < 100:
            raise UsageError("--samples and --heavy_samples must be at least 1, --largest at least 100.")


def evaluation(options: EvaluationOptions) -> Report:
    """Write `evaluation.md`, `.json` and `.png`, and return the report.

    Raises UsageError for a folder without frames, UnavailableError without matplotlib.
    """
    check_plotting()
    with TemporaryDirectory() as name:
        folder = Path(name)
        _log.info("data and models …")
        demo = demo_case(folder)
        heavy = _heavy(demo, options.frames, folder)
        _log.info("stages …")
        measured = _measured(demo, heavy, folder, options)
        _log.info("scaling …")
        scaling = _scaling(demo, folder, options.largest)
    report = _report(measured, scaling)
    write_report(report, options.output_dir, plot=partial(_plot, measured=measured, scaling=scaling))
    return report


def _heavy(demo: Case, frames: Sequence[Path], folder: Path) -> Case:
    recipe = load_recipe(HEAVY)
    model = build(recipe, "seeded:0", folder)
    if not frames:
        return Case(recipe, model, demo.data_root, demo.ann_file)
    listed, data = folder / "frames.txt", folder / "frames"
    data.mkdir()
    lines = []
    for number, source in enumerate(frame_folders(frames, recipe.dataset.frame_naming)):
        (data / f"{number:06d}").symlink_to(source.folder.resolve())
        lines.append(f"{number:06d} {source.total_frames} 0\n")
    listed.write_text("".join(lines))
    return Case(recipe, model, data, listed)


def _measured(demo: Case, heavy: Case, folder: Path, options: EvaluationOptions) -> list[StageTimes]:
    cores, rounds = usable_cores(), options.rounds
    small = repeated(demo, options.samples, folder / "small")
    large = repeated(heavy, options.heavy_samples, folder / "large")
    return [
        stage_times(small, "tsm_demo, one core each", workers=1, threads=1, rounds=rounds),
        stage_times(small, "tsm_demo, all cores each", workers=cores, threads=cores, rounds=rounds),
        stage_times(large, f"{HEAVY}, all cores each", workers=cores, threads=cores, rounds=1),
    ]


def _scaling(case: Case, folder: Path, largest: int) -> _Scaling:
    seconds, peaks, left = {}, {}, 0
    temporary = folder / "temporary"
    temporary.mkdir()
    for count in sorted({10, 100, largest}):
        out = folder / f"out{count}"
        words = command(repeated(case, count, folder / f"list{count}"), out)
        peaks[count] = peak_rss(["env", f"TMPDIR={temporary}", *words])
        seconds[count] = read_json(out / "evaluation.json")["seconds"]
        left += len({path.name for path in out.iterdir()} ^ RESULTS)
        left += sum(path.name != _OF_ONNX_RUNTIME for path in temporary.iterdir())
    return _Scaling(seconds, peaks, left)


def _report(measured: Sequence[StageTimes], scaling: _Scaling) -> Report:
    rows = [
        (
            one.what,
            one.workers,
            one.threads,
            one.decode,
            one.engine,
            one.combined,
            one.over_slower,
            one.over_sum,
        )
        for one in measured
    ]
    grown = [
        (count, scaling.seconds[count], count / scaling.seconds[count], scaling.peaks[count] / 1e6)
        for count in scaling.peaks
    ]
    largest = max(scaling.peaks)
    separate, _, heavy = measured
    return Report(
        name="evaluation",
        question="Do decoding and engine overlap, and is memory independent of the number of samples?",
        tables=(
            Table(
                "Both stages, alone and combined",
                (
                    "case",
                    "processes",
                    "threads",
                    "decode",
                    "engine",
                    "combined",
                    "over the slower",
                    "over the sum",
                ),
                rows,
                _STAGES_NOTE,
            ),
            Table("Scaling", ("samples", "seconds", "samples/s", "peak MB"), grown, _SCALING_NOTE),
        ),
        targets=(
            Target(
                f"{separate.what}: combined over the slower stage",
                separate.over_slower,
                OVERLAP,
                at_least=False,
            ),
            Target(
                f"{heavy.what}: combined over the slower stage", heavy.over_slower, OVERLAP, at_least=False
            ),
            Target(
                f"peak memory at {largest} samples over that at 100",
                scaling.peaks[largest] / scaling.peaks[100],
                MEMORY,
                at_least=False,
            ),
            Target("leftover non-result files", scaling.left, 0, at_least=False),
        ),
        conditions=machine_state(),
    )


def _plot(figure: Any, *, measured: Sequence[StageTimes], scaling: _Scaling) -> None:
    bars, grown = figure.subplots(1, 2)
    for offset, stage in enumerate(("decode", "engine", "combined")):
        heights = [getattr(one, stage) / max(one.decode, one.engine) for one in measured]
        bars.bar([place + 0.25 * (offset - 1) for place in range(len(measured))], heights, 0.23, label=stage)
    bars.axhline(OVERLAP, color="black", linestyle="--", label="target")
    bars.set(ylabel="over the slower stage alone", title="stages alone and combined")
    bars.legend(fontsize=8)
    bars.set_xticks(range(len(measured)), [one.what.replace(", ", "\n") for one in measured], fontsize=7)
    counts = list(scaling.peaks)
    grown.plot(counts, [scaling.seconds[count] for count in counts], marker="o", label="seconds")
    grown.plot(counts, [scaling.peaks[count] / 1e6 for count in counts], marker="s", label="peak memory, MB")
    grown.set(xscale="log", yscale="log", xlabel="samples", title="scaling, tsm_demo")
    grown.grid(alpha=0.3)
    grown.legend(fontsize=8)


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Measure and print the report; 1 if a target is missed."""
    return reported(evaluation, read_options(EvaluationOptions, argv, prog="python -m benchmarks.evaluation"))


if __name__ == "__main__":
    under_fair_settings()
    run(main)
