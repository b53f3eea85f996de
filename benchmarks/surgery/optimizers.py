"""vidom's passes and auto-optimizer on one exported graph: `python -m benchmarks.surgery.optimizers --model G.onnx …`.

A small TSM is enough to compare: `python export/to_onnx.py --recipe tsm_sthv2 --checkpoint seeded:0
--set views.short_side=64 --set views.crop_size=64 --output G.onnx` exports one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring.graph_times import measured_times, sample_of
from benchmarks.measuring.report import Report, reported, write_report
from benchmarks.surgery.optimizer_report import CONTROL, Graph, optimizer_report
from export.auto_optimizer.external_optimizer import find_auto_optimizer
from export.build_record import read_record
from export.modify_onnx import ModifyOnnxOptions, modify_onnx
from export.surgery.model_file import load_model
from export.surgery.operator_counts import count_operators
from vidom.command import run
from vidom.errors import ExitCode, UsageError
from vidom.options import option, read_options

__all__ = ["OptimizersOptions", "main", "optimizers"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Surgery:
    """A row of the table: the passes of vidom, None for all, and whether auto-optimizer runs after them."""

    name: str
    file: str
    passes: tuple[str, ...] | None
    auto_optimizer: bool


SURGERIES = (
    Surgery("auto-optimizer", "auto_optimizer.onnx", (), auto_optimizer=True),
    Surgery("vidom", "vidom.onnx", None, auto_optimizer=False),
    Surgery("vidom, then auto-optimizer", "both.onnx", None, auto_optimizer=True),
    Surgery(
        "vidom's fold-constants and constant-fold-zeros, then auto-optimizer",
        "constant_folding_auto_optimizer.onnx",
        ("fold-constants", "constant-fold-zeros"),
        auto_optimizer=True,
    ),
)


@dataclass(frozen=True, kw_only=True)
class OptimizersOptions:
    """Compare operators, time and parity of one graph after vidom's passes, auto-optimizer, and both."""

    model: Path = option("the exported graph")
    output_dir: Path = option("folder of the graphs and the table")
    rounds: int = option("interleaved runs of each graph; the fastest counts", default=20)
    threads: int = option("threads of ONNX Runtime", default=1)

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.threads < 1:
            raise UsageError(
                f"--rounds and --threads must be at least 1, not {self.rounds} and {self.threads}."
            )


def optimizers(options: OptimizersOptions) -> Report:
    """Write `optimizers.md` and `.json`, which compare both optimizers, and all graphs; return the report.

    Each graph keeps a row for each clip, so that outputs are comparable. All runs are interleaved and on the same
    random sample; the fastest run of each counts. Raises what surgery raises, such as UnavailableError without
    auto-optimizer.
    """
    model, output_dir, rounds = options.model, options.output_dir, options.rounds
    find_auto_optimizer()
    operators = count_operators(load_model(model))
    files, graphs = [model, model], [Graph(name, operators) for name in ("exported", CONTROL)]
    for surgery in SURGERIES:
        _log.info(f"{surgery.name} …")
        graph, path = _optimized(surgery, model, output_dir)
        files.append(path)
        graphs.append(graph)
    runnable = [path if graph.passed else None for path, graph in zip(files, graphs, strict=True)]
    _log.info(f"{rounds} rounds with and {rounds} without ONNX Runtime's own graph optimization …")
    times = measured_times(runnable, sample_of(model), rounds=rounds, threads=options.threads)
    report = optimizer_report(model, graphs, times, rounds=rounds, threads=options.threads)
    write_report(report, output_dir)
    return report


def _optimized(surgery: Surgery, model: Path, output_dir: Path) -> tuple[Graph, Path]:
    path = output_dir / surgery.file
    done = modify_onnx(
        ModifyOnnxOptions(
            model=model,
            output=path,
            passes=surgery.passes,
            average_clips="keep",
            auto_optimizer=() if surgery.auto_optimizer else None,
        )
    )
    versions = read_record(path).get("auto_optimizer", {}).get("versions", {}) if path.exists() else {}
    graph = Graph(surgery.name, done.operators_after, done.changed_by, done.parities, versions=versions)
    return graph, path


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Compare and print the report; 1 if a graph gives different results."""
    return reported(
        optimizers, read_options(OptimizersOptions, argv, prog="python -m benchmarks.surgery.optimizers")
    )


if __name__ == "__main__":
    run(main)
