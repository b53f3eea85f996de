"""What each pass of surgery does, one after the other: `python -m benchmarks.surgery.passes`.

The graph after every pass is compared with the original one on random samples, and all of them are timed in turn in
ONNX Runtime. What a pass is worth on an NPU this does not tell.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from benchmarks.inference.naive_graph import naive_graph
from benchmarks.measuring.graph_times import measured_times, sample_of
from benchmarks.measuring.report import Bar, Cell, Report, Table, write_report
from benchmarks.measuring.settings import machine_state, under_fair_settings
from export.surgery.model_file import load_model, model_bytes
from export.surgery.operator_counts import count_operators
from export.surgery.pass_types import TARGETS, Target
from export.surgery.run import PASSES, run_passes
from export.verification.equivalence import check_equivalence
from vidom.command import Parser, run
from vidom.errors import ExitCode
from vidom.files import write_bytes
from vidom.formats.recipe import load_recipe

__all__ = ["main", "passes"]

_log = logging.getLogger(__name__)

RECIPES = ("tsm_k400", "i3d_k400", "pptsm_k400_uniform", "stnet_k400")
_COLUMNS = ("after the pass", "operators", "Slice", "Pad", "max logit difference, of the largest", "time")
_NOTE = (
    "Passes one after the other, those left out that change nothing. The difference is that of the logits from the "
    "graph as it was, on random samples, over the largest of them; time is ONNX Runtime's, over that of the graph as "
    "it was."
)


def passes(*, recipes: Sequence[str], output_dir: Path, rounds: int = 5, threads: int = 2) -> Report:
    """`output_dir` holds `passes.md` and `.json`: for each recipe and target a row for every pass that did something.

    TSM's graph is mmaction2's, the others' is their own export; weights are stand-ins, batch 1, a single view. The bars
    are the largest difference of a pass over what is allowed.
    """
    tables, bars = [], []
    for name in recipes:
        for target in TARGETS:
            rows, worst = _rows(name, target, output_dir / "passes", rounds, threads)
            tables.append(Table(f"{name}, for {target}", _COLUMNS, rows, _NOTE))
            what = f"{name}, {target}: largest difference after a pass, over the allowed one"
            bars.append(Bar(what, worst, 1.0, at_least=False))
    report = Report(
        name="passes",
        question="What does each pass of surgery do to a graph, and does the meaning stay?",
        tables=tables,
        bars=bars,
        conditions={"rounds": rounds, "threads": threads, "NPU": "none took part", **machine_state()},
    )
    write_report(report, output_dir)
    return report


def _rows(
    name: str, target: Target, folder: Path, rounds: int, threads: int
) -> tuple[list[tuple[Cell, ...]], float]:
    _log.info(f"{name}, for {target} …")
    recipe = load_recipe(name)
    recipe = recipe.one_view() if recipe.views.clips > 1 else recipe
    original = folder / f"{name}.onnx"
    naive_graph(recipe=recipe, output=original)
    files, found, worst = [original], [("as it was", load_model(original), 0.0)], 0.0
    serving = [item.name for item in PASSES if target in item.targets]
    for count, added in enumerate(serving, 1):
        surgery = run_passes(original, passes=serving[:count], batch_size=1, target=target)
        if not surgery.steps[-1].modified:
            continue
        parities = check_equivalence(found[0][1], surgery.model)
        worst = max(worst, *(parity.tolerance_used for parity in parities))
        found.append((added, surgery.model, parities[0].relative_logits or 0.0))
        files.append(folder / f"{name}_{target}_{count}.onnx")
        write_bytes(files[-1], model_bytes(surgery.model))
    times = measured_times(files, sample_of(original), rounds=rounds, threads=threads)
    first = times[0][0] or 1.0
    rows: list[tuple[Cell, ...]] = []
    for (after, model, difference), (seconds, _) in zip(found, times, strict=True):
        operators = count_operators(model)
        cells = (sum(operators.values()), operators.get("Slice", 0), operators.get("Pad", 0))
        rows.append((after, *cells, difference, (seconds or 0.0) / first))
    return rows, worst


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Read the command line, measure, print the report; 1 if a pass changed what a graph means."""
    parser = Parser(prog="python -m benchmarks.surgery.passes", description="What each pass of surgery does.")
    parser.add_argument("--recipes", nargs="+", default=RECIPES, help="recipes, with stand-in weights")
    parser.add_argument("--output_dir", type=Path, default=Path("run/bench"), help="where the report goes")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each graph, in turn")
    report = passes(**vars(parser.parse_args(argv)))
    print(report.text, end="")
    return report.exit_code


if __name__ == "__main__":
    under_fair_settings()
    run(main)
