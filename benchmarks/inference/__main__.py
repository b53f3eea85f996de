"""Speed of each network in each engine: `python -m benchmarks.inference [--recipes R … --batches N …]`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.inference.plot import plot_inference
from benchmarks.inference.rows import measured
from benchmarks.inference.scaling import measured_scaling
from benchmarks.inference.tables import report_of
from benchmarks.inference.variants import subject_of
from benchmarks.measuring.report import Report, check_plotting, reported, write_report
from benchmarks.measuring.settings import under_fair_settings
from vidom.command import run
from vidom.errors import ExitCode, UsageError
from vidom.formats.recipe import Recipe, load_recipe
from vidom.options import option, read_options

__all__ = ["InferenceOptions", "inference", "main"]

_log = logging.getLogger(__name__)

RECIPES = ("tsm_sthv2", "tsm_k400", "i3d_k400", "pptsm_k400_uniform", "stnet_k400")
BATCHES = {"tsm_sthv2": (1, 4)}
"""The default batch sizes of a recipe; 1 for all others."""
GROWTH = (1, 2, 4, 8, 16, 32)
_SCALING_RECIPE = ("tsm_k400", ("views.short_side=128", "views.crop_size=112"))


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """Measure torch, ONNX Runtime and OpenVINO on each network's graphs, interleaved.

    `scaling_recipe` is the recipe of the scaling table, by default tsm_k400 on small frames.
    """

    recipes: tuple[str, ...] = option("recipes in om_models/ or paths of .yaml files", default=RECIPES)
    batches: tuple[int, ...] = option(
        "batch sizes (default: 1, for tsm_sthv2 1 and 4)", default=(), metavar="N"
    )
    growth: tuple[int, ...] = option(
        "batch sizes of the scaling table; without values it is omitted", default=GROWTH, metavar="N"
    )
    rounds: int = option("interleaved runs of each variant; the fastest counts", default=3)
    samples: int = option("samples on which bf16 is compared with f32", default=8)
    output_dir: Path = option("folder of the graphs, tables and figure", default=Path("run/bench"))
    scaling_recipe: Recipe | None = None

    def __post_init__(self) -> None:
        for name in ("batches", "growth", "rounds", "samples"):
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else (value,)
            if min(numbers, default=1) < 1:
                raise UsageError(f"--{name} takes numbers of at least 1, not {' '.join(map(str, numbers))}.")
        for name in self.recipes:
            load_recipe(name)


def inference(options: InferenceOptions) -> Report:
    """Write `inference.md`, `.json` and `.png`, and to `models` the graphs, which later runs reuse.

    Returns the report. Raises UnavailableError without matplotlib, CheckFailedError when surgery changes the results
    of a graph.
    """
    check_plotting()
    models, rounds = options.output_dir / "models", options.rounds
    cases = []
    for name in options.recipes:
        for batch in options.batches or BATCHES.get(name, (1,)):
            _log.info(f"{name}, batch {batch}: building its graphs …")
            cases.append(measured(subject_of(name, batch, models), rounds=rounds, samples=options.samples))
    small = options.scaling_recipe or load_recipe(*_SCALING_RECIPE)
    scaling = measured_scaling(small, options.growth, models) if options.growth else None
    report = report_of(cases, scaling, rounds=rounds)
    write_report(report, options.output_dir, plot=partial(plot_inference, cases=cases, scaling=scaling))
    return report


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Measure, print the tables and PASSED or FAILED for each target; 1 if one is missed."""
    code = reported(inference, read_options(InferenceOptions, argv, prog="python -m benchmarks.inference"))
    print("PASSED" if code == ExitCode.DONE else "FAILED", flush=True)
    return code


if __name__ == "__main__":
    under_fair_settings()
    run(main)
