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
from benchmarks.measuring.report import Report, write_report
from benchmarks.surgery.optimizer_table import CONTROL, Graph, surgeons_report
from export.auto_optimizer.external_optimizer import find_auto_optimizer
from export.build_record import read_record
from export.modify_onnx import ModifyOnnxOptions, modify_onnx
from export.surgery.model_file import load_model
from export.surgery.operator_counts import count_operators
from vidom.command import Parser, run
from vidom.errors import ExitCode, UsageError

__all__ = ["main", "surgeons"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Surgery:
    """A row of the table: the passes of vidom, None for all, and whether auto-optimizer operates after them."""

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
        "zero_blanks_auto_optimizer.onnx",
        ("fold-constants", "constant-fold-zeros"),
        auto_optimizer=True,
    ),
)


def surgeons(*, model: Path, output_dir: Path, rounds: int = 20, threads: int = 1) -> Report:
    """`output_dir` holds `surgeons.md` and `.json`, which compare both surgeons on `model`, and all graphs.

    Each keeps a row for each clip, so that outputs can be compared as they are. All graphs run `rounds` times in turn
    on the same random sample; the fastest run of each counts. Raises UsageError for numbers that are none and what
    surgery raises, UnavailableError without auto-optimizer among it.
    """
    if rounds < 1 or threads < 1:
        raise UsageError(f"--rounds and --threads must be at least 1, found {rounds} and {threads}.")
    find_auto_optimizer()
    operators = count_operators(load_model(model))
    files, operated = [model, model], [Graph(name, operators) for name in ("as exported", CONTROL)]
    for surgery in SURGERIES:
        _log.info(f"{surgery.name} …")
        graph, path = _operated(surgery, model, output_dir)
        files.append(path)
        operated.append(graph)
    runnable = [path if graph.passed else None for path, graph in zip(files, operated, strict=True)]
    _log.info(f"{rounds} rounds with and {rounds} without ONNX Runtime's own optimisation …")
    times = measured_times(runnable, sample_of(model), rounds=rounds, threads=threads)
    report = surgeons_report(model, operated, times, rounds=rounds, threads=threads)
    write_report(report, output_dir)
    return report


def _operated(surgery: Surgery, model: Path, output_dir: Path) -> tuple[Graph, Path]:
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
    """Read the command line, compare and print the report; 1 if a graph does not mean the same."""
    parser = Parser(
        prog="python -m benchmarks.surgery.optimizers",
        description="Operators, time and parity of one graph after vidom's passes, auto-optimizer, and both.",
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, help="the graph as exported")
    add("--output_dir", type=Path, required=True, help="where the graphs and the table go")
    add("--rounds", type=int, default=20, help="runs of each graph, in turn; the fastest counts")
    add("--threads", type=int, default=1, help="threads of ONNX Runtime")
    options = parser.parse_args(argv)
    report = surgeons(
        model=options.model, output_dir=options.output_dir, rounds=options.rounds, threads=options.threads
    )
    print(report.text, end="")
    return report.exit_code


if __name__ == "__main__":
    run(main)
