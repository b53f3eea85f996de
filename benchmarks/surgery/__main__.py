"""The effect of surgery on each network's export: `python -m benchmarks.surgery --output_dir run/surgery`.

Times are ratios of the fastest runs of both graphs, interleaved; on a shared machine only ratios are meaningful.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring.graph_times import measured_times, sample_of
from benchmarks.measuring.report import Cell, Report, Table, reported, write_report
from benchmarks.measuring.settings import machine_state
from export.lint_onnx import LintOptions, lint_onnx
from export.modify_onnx import ModifyOnnxOptions, modify_onnx
from export.surgery.model_file import load_model
from export.surgery.operator_counts import count_operators
from export.to_onnx import OPSETS, Opset, ToOnnxOptions, to_onnx
from export.verify import VerifyOptions, verify
from vidom.command import run
from vidom.errors import CheckFailedError, ExitCode
from vidom.formats.recipe import load_recipe
from vidom.options import option, read_options

__all__ = ["SurgeryOptions", "main", "surgery"]

_log = logging.getLogger(__name__)

RECIPES = ("tsm_k400", "i3d_k400", "pptsm_k400_uniform", "stnet_k400")
CHECKPOINT = "seeded:0"
_COLUMNS = (
    *("recipe", "opset", "ops before", "after", "Slice before", "after", "batches verified"),
    *("max diff / max logit", "lint errors", "time", "time as written"),
)
_NOTE = (
    "The difference is the largest from torch over the batches. time: modified over exported graph; as written: "
    "without ONNX Runtime's own graph optimization."
)


@dataclass(frozen=True, kw_only=True)
class SurgeryOptions:
    """Show what surgery does to each network's export: operators, parity, time."""

    recipes: tuple[str, ...] = option("recipes to export with random (seeded) weights", default=RECIPES)
    output_dir: Path = option("folder of the graphs and tables", default=Path("run/surgery"))
    rounds: int = option("runs of each graph", default=5)
    threads: int = 2


def surgery(options: SurgeryOptions) -> Report:
    """Write `surgery.md` and `.json`, with a row for each recipe and opset, and return the report.

    The weights are random, because times and differences do not depend on training. A recipe with several clips is
    exported for one view. Raises CheckFailedError when a graph and torch give different results.
    """
    rows = [_row(name, opset, options) for name in options.recipes for opset in OPSETS]
    report = Report(
        name="surgery",
        question="What does surgery do to each network's export?",
        tables=[Table("Graphs", _COLUMNS, rows, _NOTE)],
        targets=[],
        conditions={
            "rounds": options.rounds,
            "threads": options.threads,
            "NPU": "not used",
            **machine_state(),
        },
    )
    write_report(report, options.output_dir)
    return report


def _row(name: str, opset: Opset, options: SurgeryOptions) -> tuple[Cell, ...]:
    _log.info(f"{name}, opset {opset}")
    recipe = load_recipe(name)
    recipe = recipe.one_view() if recipe.views.clips > 1 else recipe
    exported, modified = (options.output_dir / f"{name}_{opset}{suffix}.onnx" for suffix in ("", "_new"))
    to_onnx(ToOnnxOptions(recipe=recipe, checkpoint=CHECKPOINT, output=exported, opset=opset))
    modify_onnx(ModifyOnnxOptions(model=exported, output=modified, batch_size=1, target="cpu"))
    parities = verify(VerifyOptions(recipe=recipe, checkpoint=CHECKPOINT, model=(exported, modified)))
    if not all(parity.passed for parity in parities):
        raise CheckFailedError(f"{modified} and torch give different results.")
    before, after = (count_operators(load_model(path)) for path in (exported, modified))
    (slow, slow_written), (fast, fast_written) = measured_times(
        [exported, modified], sample_of(exported), rounds=options.rounds, threads=options.threads
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


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Measure and print the report."""
    return reported(surgery, read_options(SurgeryOptions, argv, prog="python -m benchmarks.surgery"))


if __name__ == "__main__":
    run(main)
