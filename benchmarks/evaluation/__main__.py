"""Whether decoding hides behind the engine and memory stays the same: `python -m benchmarks.evaluation`.

The demo's drawn videos and its small network, of which decoding is the slower side, and the network of tsm_sthv2 with
seeded weights, of which the engine is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.evaluation.stages import Case, Sides, build, command, demo_case, repeated, sides
from benchmarks.measuring.memory import peak_rss
from benchmarks.measuring.report import Bar, Report, Table, check_plotting, write_report
from benchmarks.measuring.settings import machine_state, under_fair_settings
from benchmarks.packing.variants import frame_folders
from vidom.command import Parser, run
from vidom.errors import ExitCode, UsageError
from vidom.files import read_json
from vidom.formats.recipe import load_recipe
from vidom.system.machine import usable_cores

__all__ = ["evaluation", "main"]

_log = logging.getLogger(__name__)

HEAVY = "tsm_sthv2"
WANTED = 1.10
# Python's own heap and the list grow by a little; a tensor kept for each sample would be 393 kB.
FLAT = 1.05
RESULTS = {"record.jsonl", "metrics.json", "evaluation.json"}
# ONNX Runtime 1.31 writes an identifier of 51 bytes into the folder of temporary files when it is imported.
_OF_ONNX_RUNTIME = ".ses"

_SIDES_NOTE = (
    "Milliseconds a sample, fastest of the rounds, in turn; the processes that decode are up before the clock runs. "
    "With a core for each side, the time together should be that of the slower one. With all cores for each side there "
    "is none left to hide behind: the floor is then the sum of both, unless one side is small."
)
_GROWTH_NOTE = (
    "`python -m infer.evaluate` on lists that repeat the demo's samples: seconds from the start of the decoding "
    "processes, which itself takes about half a second, to the last row; peak resident memory of its largest process."
)


@dataclass(frozen=True)
class _Growth:
    """Seconds and peak bytes by number of samples, and how many files were left that are no results."""

    seconds: Mapping[int, float]
    peaks: Mapping[int, int]
    left: int


def evaluation(
    *,
    output_dir: Path,
    frames: Sequence[Path] = (),
    rounds: int = 3,
    samples: int = 400,
    heavy_samples: int = 12,
    largest: int = 1000,
) -> Report:
    """`output_dir` holds `evaluation.md`, `.json` and `.png`.

    `frames` are folders of extracted frames for the large network, by default those of the demo. Growth is shown from
    10 to `largest` samples. Raises UsageError for a folder without frames, UnavailableError without matplotlib.
    """
    if min(samples, heavy_samples) < 1 or largest < 100:
        raise UsageError("--samples and --heavy_samples must be at least 1, --largest at least 100.")
    check_plotting()
    with TemporaryDirectory() as name:
        folder = Path(name)
        _log.info("data and models …")
        demo = demo_case(folder)
        heavy = _heavy(demo, frames, folder)
        _log.info("sides …")
        measured = _measured(demo, heavy, folder, rounds=rounds, samples=samples, heavy_samples=heavy_samples)
        _log.info("growth …")
        growth = _growth(demo, folder, largest)
    report = _report(measured, growth)
    write_report(report, output_dir, plot=partial(_plot, measured=measured, growth=growth))
    return report


def _heavy(demo: Case, frames: Sequence[Path], folder: Path) -> Case:
    recipe = load_recipe(HEAVY)
    model = build(recipe, "seeded:0", folder)
    if not frames:
        return Case(recipe, model, demo.data_root, demo.ann_file)
    listed, data = folder / "frames.txt", folder / "frames"
    data.mkdir()
    lines = []
    for number, source in enumerate(frame_folders(frames, recipe.dataset.frame_template)):
        (data / f"{number:06d}").symlink_to(source.folder.resolve())
        lines.append(f"{number:06d} {source.total_frames} 0\n")
    listed.write_text("".join(lines))
    return Case(recipe, model, data, listed)


def _measured(
    demo: Case, heavy: Case, folder: Path, *, rounds: int, samples: int, heavy_samples: int
) -> list[Sides]:
    cores = usable_cores()
    small = repeated(demo, samples, folder / "small")
    large = repeated(heavy, heavy_samples, folder / "large")
    return [
        sides(small, "tsm_demo, a core each", workers=1, threads=1, rounds=rounds),
        sides(small, "tsm_demo, all cores each", workers=cores, threads=cores, rounds=rounds),
        sides(large, f"{HEAVY}, all cores each", workers=cores, threads=cores, rounds=1),
    ]


def _growth(case: Case, folder: Path, largest: int) -> _Growth:
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
    return _Growth(seconds, peaks, left)


def _report(measured: Sequence[Sides], growth: _Growth) -> Report:
    rows = [
        (one.what, one.workers, one.threads, one.decode, one.engine, one.together, one.to_slower, one.to_sum)
        for one in measured
    ]
    grown = [
        (count, growth.seconds[count], count / growth.seconds[count], growth.peaks[count] / 1e6)
        for count in growth.peaks
    ]
    largest = max(growth.peaks)
    apart, _, heavy = measured
    return Report(
        name="evaluation",
        question="Does decoding hide behind the engine, and does memory stay the same however many samples there are?",
        tables=(
            Table(
                "Both sides alone and together",
                (
                    "what",
                    "processes",
                    "threads",
                    "decode",
                    "engine",
                    "together",
                    "to the slower",
                    "to the sum",
                ),
                rows,
                _SIDES_NOTE,
            ),
            Table("Growth", ("samples", "seconds", "samples/s", "peak MB"), grown, _GROWTH_NOTE),
        ),
        bars=(
            Bar(f"{apart.what}: together to the slower side", apart.to_slower, WANTED, at_least=False),
            Bar(f"{heavy.what}: together to the slower side", heavy.to_slower, WANTED, at_least=False),
            Bar(
                f"peak memory at {largest} samples to that at 100",
                growth.peaks[largest] / growth.peaks[100],
                FLAT,
                at_least=False,
            ),
            Bar("files left that are no results", growth.left, 0, at_least=False),
        ),
        conditions=machine_state(),
    )


def _plot(figure: Any, *, measured: Sequence[Sides], growth: _Growth) -> None:
    bars, grown = figure.subplots(1, 2)
    for offset, side in enumerate(("decode", "engine", "together")):
        heights = [getattr(one, side) / max(one.decode, one.engine) for one in measured]
        bars.bar([place + 0.25 * (offset - 1) for place in range(len(measured))], heights, 0.23, label=side)
    bars.axhline(WANTED, color="black", linestyle="--", label="bar")
    bars.set(ylabel="times the slower side alone", title="sides alone and together")
    bars.legend(fontsize=8)
    bars.set_xticks(range(len(measured)), [one.what.replace(", ", "\n") for one in measured], fontsize=7)
    counts = list(growth.peaks)
    grown.plot(counts, [growth.seconds[count] for count in counts], marker="o", label="seconds")
    grown.plot(counts, [growth.peaks[count] / 1e6 for count in counts], marker="s", label="peak memory, MB")
    grown.set(xscale="log", yscale="log", xlabel="samples", title="growth, tsm_demo")
    grown.grid(alpha=0.3)
    grown.legend(fontsize=8)


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Read the command line, measure, print the report; 1 if a bar is missed."""
    parser = Parser(
        prog="python -m benchmarks.evaluation", description="Evaluation against its two sides alone."
    )
    add = parser.add_argument
    add("--output_dir", type=Path, default=Path("run/bench"), help="where report and picture go")
    add(
        "--frames", type=Path, nargs="+", default=[], help="folders of extracted frames for the large network"
    )
    add("--rounds", type=int, default=3, help="how often each side takes its turn")
    add("--samples", type=int, default=400, help="samples of the demo in each turn")
    add("--heavy_samples", type=int, default=12, help="samples of the large network in each turn")
    add("--largest", type=int, default=1000, help="samples up to which growth is shown")
    report = evaluation(**vars(parser.parse_args(argv)))
    print(report.text, end="")
    return report.exit_code


if __name__ == "__main__":
    under_fair_settings()
    run(main)
