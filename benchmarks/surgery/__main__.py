"""What surgery does to each network's own export: `python -m benchmarks.surgery --output_dir run/surgery`.

Times are ratios of the fastest runs of both graphs, run in turn; nothing else of them means anything on a
machine that others use too.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measuring.graph_times import measured_times, sample_of
from benchmarks.measuring.report import Cell, Report, Table, write_report
from benchmarks.measuring.settings import machine_state
from export.lint_onnx import LintOptions, lint_onnx
from export.modify_onnx import ModifyOnnxOptions, modify_onnx
from export.surgery.model_file import load_model
from export.surgery.operator_counts import count_operators
from export.to_onnx import OPSETS, Opset, ToOnnxOptions, to_onnx
from export.verify import VerifyOptions, verify
from vidom.command import Parser, run
from vidom.errors import CheckFailedError
from vidom.formats.recipe import load_recipe

__all__ = ["main", "surgery"]

_log = logging.getLogger(__name__)

RECIPES = ("tsm_k400", "i3d_k400", "pptsm_k400_uniform", "stnet_k400")
CHECKPOINT = "seeded:0"


_COLUMNS = (
    *("recipe", "opset", "ops before", "after", "Slice before", "after", "batches verified"),
    *("max diff / max logit", "lint errors", "time", "time as written"),
)
_NOTE = (
    "The difference is the largest from torch over the batches. time: modified over exported graph; as written: "
    "without ONNX Runtime's own rewriting."
)


def surgery(*, recipes: Sequence[str], output_dir: Path, rounds: int = 5, threads: int = 2) -> Report:
    """`output_dir` holds `surgery.md` and `.json`, with a row for each recipe and opset.

    Stand-in weights are used, since times and differences do not depend on training. A recipe of a view plan
    with several clips is exported for one view, which is what its convolutions see. Raises CheckFailedError when a
    graph does not compute what torch computes.
    """
    rows = [_row(name, opset, output_dir, rounds, threads) for name in recipes for opset in OPSETS]
    report = Report(
        name="surgery",
        question="What does surgery do to each network's own export?",
        tables=[Table("Graphs", _COLUMNS, rows, _NOTE)],
        bars=[],
        conditions={"rounds": rounds, "threads": threads, "NPU": "none took part", **machine_state()},
    )
    write_report(report, output_dir)
    return report


def _row(name: str, opset: Opset, folder: Path, rounds: int, threads: int) -> tuple[Cell, ...]:
    _log.info(f"{name}, opset {opset}")
    recipe = load_recipe(name)
    recipe = recipe.one_view() if recipe.views.clips > 1 else recipe
    exported, modified = (folder / f"{name}_{opset}{suffix}.onnx" for suffix in ("", "_new"))
    to_onnx(ToOnnxOptions(recipe=recipe, checkpoint=CHECKPOINT, output=exported, opset=opset))
    modify_onnx(ModifyOnnxOptions(model=exported, output=modified, batch_size=1, target="cpu"))
    parities = verify(VerifyOptions(recipe=recipe, checkpoint=CHECKPOINT, model=(exported, modified)))
    if not all(parity.passed for parity in parities):
        raise CheckFailedError(f"{modified} does not compute what torch computes.")
    before, after = (count_operators(load_model(path)) for path in (exported, modified))
    (slow, slow_written), (fast, fast_written) = measured_times(
        [exported, modified], sample_of(exported), rounds=rounds, threads=threads
    )
    return (
        name,
        opset,
        sum(before.values()),
        sum(after.values()),
        before.get("Slice", 0),
        after.get("Slice", 0),
        ", ".join(map(str, sorted({parity.batch_size for parity in parities}))),
        max(parity.relative_logits or 0.0 for parity in parities),
        sum(finding.severity == "error" for finding in lint_onnx(LintOptions(model=modified))),
        (fast or 0) / (slow or 1),
        (fast_written or 0) / (slow_written or 1),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print the report."""
    parser = Parser(description="What surgery does to each network's own export: operators, parity, time.")
    parser.add_argument(
        "--recipes", nargs="+", default=RECIPES, help="recipes to export with stand-in weights"
    )
    parser.add_argument("--output_dir", type=Path, default=Path("run/surgery"), help="graphs and tables")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each graph")
    options = parser.parse_args(argv)
    report = surgery(recipes=options.recipes, output_dir=options.output_dir, rounds=options.rounds)
    print(report.text, end="")


if __name__ == "__main__":
    run(main)
