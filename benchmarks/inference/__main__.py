"""How fast each network runs, and against what: `python -m benchmarks.inference [--recipes R … --batches N …]`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.inference.growth import measured_growth
from benchmarks.inference.plot import draw
from benchmarks.inference.rows import measured
from benchmarks.inference.tables import report_of
from benchmarks.inference.variants import subject_of
from benchmarks.measuring.report import Report, check_plotting, write_report
from benchmarks.measuring.settings import under_fair_settings
from vidom.command import Parser, run
from vidom.errors import ExitCode, UsageError
from vidom.formats.recipe import Recipe, load_recipe

__all__ = ["inference", "main"]

_log = logging.getLogger(__name__)

RECIPES = ("tsm_sthv2", "tsm_k400", "i3d_k400", "pptsm_k400_uniform", "stnet_k400")
BATCHES = {"tsm_sthv2": (1, 4)}
"""The batches of a recipe where they are not given, 1 for all others."""
GROWTH = (1, 2, 4, 8, 16, 32)
_GROWTH_RECIPE = ("tsm_k400", ("views.short_side=128", "views.crop_size=112"))


def inference(
    *,
    recipes: Sequence[str] = RECIPES,
    batches: Sequence[int] = (),
    growth: Sequence[int] = GROWTH,
    output_dir: Path,
    rounds: int = 3,
    samples: int = 8,
    growth_recipe: Recipe | None = None,
) -> Report:
    """`output_dir` holds `inference.md`, `.json` and `.png`, and in `models` the graphs, which later runs use again.

    Each recipe runs at each of `batches`, by default 1 and, for tsm_sthv2, 4. `growth` are the batches of the growth,
    none to leave it out, of `growth_recipe`, by default tsm_k400 on small frames. `samples` is on how many samples
    bfloat16 is compared with float32. Raises UsageError for numbers below 1 and unknown recipes, UnavailableError without
    matplotlib, CheckFailedError when surgery changes what a graph computes.
    """
    for name, numbers in (
        ("batches", batches),
        ("growth", growth),
        ("rounds", [rounds]),
        ("samples", [samples]),
    ):
        if min(numbers, default=1) < 1:
            raise UsageError(f"--{name} takes numbers of at least 1, found {' '.join(map(str, numbers))}.")
    for name in recipes:
        load_recipe(name)
    check_plotting()
    cases = []
    for name in recipes:
        for batch in batches or BATCHES.get(name, (1,)):
            _log.info(f"{name}, batch {batch}: building its graphs …")
            subject = subject_of(name, batch, output_dir / "models")
            cases.append(measured(subject, rounds=rounds, samples=samples))
    small = growth_recipe or load_recipe(*_GROWTH_RECIPE)
    grown = measured_growth(small, growth, output_dir / "models") if growth else None
    report = report_of(cases, grown, rounds=rounds)
    write_report(report, output_dir, plot=partial(draw, cases=cases, growth=grown))
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, measure, print the tables and PASSED or FAILED for each bar."""
    parser = Parser(
        prog="python -m benchmarks.inference",
        description="Seconds of torch, ONNX Runtime and OpenVINO on each network's graphs, measured in turn.",
    )
    add = parser.add_argument
    add("--recipes", nargs="*", default=list(RECIPES), help="recipes in om_models/ or paths of .yaml files")
    add(
        "--batches",
        nargs="+",
        type=int,
        default=[],
        metavar="N",
        help="batch sizes (default: 1, tsm_sthv2 1 and 4)",
    )
    add(
        "--growth",
        nargs="*",
        type=int,
        default=list(GROWTH),
        metavar="N",
        help="batches of the growth; none: leave out",
    )
    add("--rounds", type=int, default=3, help="turns of each way; the fastest run counts")
    add("--samples", type=int, default=8, help="samples on which bf16 is compared with f32")
    add("--output_dir", type=Path, default=Path("run/bench"), help="where graphs, tables and picture go")
    options = parser.parse_args(argv)
    report = inference(
        recipes=options.recipes,
        batches=options.batches,
        growth=options.growth,
        output_dir=options.output_dir,
        rounds=options.rounds,
        samples=options.samples,
    )
    print(report.text, end="")
    passed = report.exit_code == ExitCode.DONE
    print("PASSED" if passed else "FAILED", flush=True)
    return report.exit_code


if __name__ == "__main__":
    under_fair_settings()
    run(main)
