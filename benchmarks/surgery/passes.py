"""The effect of each pass of surgery: `python -m benchmarks.surgery.passes`.

The graph after every pass is compared with the original one on random samples; the times in ONNX Runtime are
interleaved. The effect on an NPU may differ.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.inference.naive_graph import naive_graph
from benchmarks.measuring.graph_times import measured_times, sample_of
from benchmarks.measuring.report import Cell, Report, Table, Target, reported, write_report
from benchmarks.measuring.settings import machine_state, under_fair_settings
from export.surgery import pass_types
from export.surgery.model_file import load_model, model_bytes
from export.surgery.operator_counts import count_operators
from export.surgery.pass_manager import PASSES, run_passes
from export.verification.equivalence import check_equivalence
from vidom.command import run
from vidom.errors import ExitCode
from vidom.files import write_bytes
from vidom.formats.recipe import load_recipe
from vidom.options import option, read_options

__all__ = ["PassesOptions", "main", "passes"]

_log = logging.getLogger(__name__)

RECIPES = ("tsm_k400", "i3d_k400", "pptsm_k400_uniform", "stnet_k400")
_COLUMNS = ("after the pass", "operators", "Slice", "Pad", "max relative logit difference", "time")
_NOTE = (
    "Passes are applied cumulatively; those without effect are omitted. The difference is that of the logits from the "
    "original graph's, on random samples, over the largest of them; time is ONNX Runtime's, over that of the original "
    "graph."
)


@dataclass(frozen=True, kw_only=True)
class PassesOptions:
    """Show what each pass of surgery does to a graph."""

    recipes: tuple[str, ...] = option("recipes, with random (seeded) weights", default=RECIPES)
    output_dir: Path = option("folder of the report", default=Path("run/bench"))
    rounds: int = option("interleaved runs of each graph", default=5)
    threads: int = 2


def passes(options: PassesOptions) -> Report:
    """Write `passes.md` and `.json`, for each recipe and target a row for every effective pass, and return the report.

    TSM's graph is mmaction2's, the others' is their own export; random weights, batch 1, a single view. The targets
    are the largest difference of a pass over the allowed one.
    """
    tables, limits = [], []
    for name in options.recipes:
        for target in pass_types.TARGETS:
            rows, worst = _rows(name, target, options)
            tables.append(Table(f"{name}, for {target}", _COLUMNS, rows, _NOTE))
            what = f"{name}, {target}: largest difference after a pass, over the allowed one"
            limits.append(Target(what, worst, 1.0, at_least=False))
    report = Report(
        name="passes",
        question="What does each pass of surgery do to a graph, and are the results unchanged?",
        tables=tables,
        targets=limits,
        conditions={
            "rounds": options.rounds,
            "threads": options.threads,
            "NPU": "not used",
            **machine_state(),
        },
    )
    write_report(report, options.output_dir)
    return report


def _rows(
    name: str, target: pass_types.Target, options: PassesOptions
) -> tuple[list[tuple[Cell, ...]], float]:
    folder = options.output_dir / "passes"
    _log.info(f"{name}, for {target} …")
    recipe = load_recipe(name)
    recipe = recipe.one_view() if recipe.views.clips > 1 else recipe
    original = folder / f"{name}.onnx"
    naive_graph(recipe=recipe, output=original)
    files, graphs, worst = [original], [("original", load_model(original), 0.0)], 0.0
    applicable = [item.name for item in PASSES if target in item.targets]
    for count, added in enumerate(applicable, 1):
        surgery = run_passes(original, passes=applicable[:count], batch_size=1, target=target)
        if not surgery.steps[-1].modified:
            continue
        parities = check_equivalence(graphs[0][1], surgery.model)
        worst = max(worst, *(parity.tolerance_used for parity in parities))
        graphs.append((added, surgery.model, parities[0].relative_logits or 0.0))
        files.append(folder / f"{name}_{target}_{count}.onnx")
        write_bytes(files[-1], model_bytes(surgery.model))
    times = measured_times(files, sample_of(original), rounds=options.rounds, threads=options.threads)
    first = times[0][0] or 1.0
    rows: list[tuple[Cell, ...]] = []
    for (after, model, difference), (seconds, _) in zip(graphs, times, strict=True):
        operators = count_operators(model)
        cells = (sum(operators.values()), operators.get("Slice", 0), operators.get("Pad", 0))
        rows.append((after, *cells, difference, (seconds or 0.0) / first))
    return rows, worst


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Measure and print the report; 1 if a pass changed the results of a graph."""
    return reported(passes, read_options(PassesOptions, argv, prog="python -m benchmarks.surgery.passes"))


if __name__ == "__main__":
    under_fair_settings()
    run(main)
