"""The comparison of graph optimizers as a report: operators, times and parity of each graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measuring.report import Cell, Report, Table, Target
from benchmarks.measuring.settings import machine_state
from export.surgery.operator_counts import OperatorCounts
from vidom.files import sha256_file
from vidom.parity import Parity

__all__ = ["CONTROL", "Graph", "optimizer_report"]

CONTROL = "exported, repeated"
Times = tuple[float | None, float | None]


@dataclass(frozen=True)
class Graph:
    """A graph of the comparison: its operators, what changed it, and its parity with the exported one.

    The exported graph has no `parities`. `versions` are those of auto-optimizer's packages if it was run.
    """

    name: str
    operators: OperatorCounts
    changed_by: tuple[str, ...] = ()
    parities: tuple[Parity, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether all differences are within tolerance."""
        return all(parity.passed for parity in self.parities)


def optimizer_report(
    model: Path, graphs: Sequence[Graph], times: Sequence[Times], *, rounds: int, threads: int
) -> Report:
    """Return the comparison of `graphs`, the exported one first, with their seconds as `measured_times` returns them.

    The targets are that each graph gives the same results as the exported one.
    """
    operators = _changed(graphs)
    rows = [_row(graph, operators, pair, times[0]) for graph, pair in zip(graphs, times, strict=True)]
    columns = ["graph", "ops", *operators, "ms", "time", "ms as written", "time as written"]
    return Report(
        name="optimizers",
        question=f"What do vidom's passes and auto-optimizer do to {model.name}?",
        tables=[Table("Graphs", columns, rows, " ".join(_notes(graphs)))],
        targets=[
            Target(
                f"{graph.name}: {item.stage}, largest difference over the tolerance",
                item.tolerance_used,
                1.0,
                at_least=False,
            )
            for graph in graphs
            for item in graph.parities
        ],
        conditions={
            "rounds": rounds,
            "threads": threads,
            "model": f"{model.name} ({sha256_file(model)})",
            "NPU": "not used",
            **machine_state(),
        },
    )


def _changed(graphs: Sequence[Graph]) -> list[str]:
    """Return the operators whose number differs between graphs, the most frequent in the first one first."""
    names = {name for graph in graphs for name in graph.operators}
    changed = [name for name in names if len({graph.operators.get(name, 0) for graph in graphs}) > 1]
    return sorted(changed, key=lambda name: (-graphs[0].operators.get(name, 0), name))


def _row(graph: Graph, operators: Sequence[str], times: Times, exported: Times) -> list[Cell]:
    cells: list[Cell] = [graph.name, sum(graph.operators.values())]
    cells += [graph.operators.get(name, 0) for name in operators]
    for seconds, first in zip(times, exported, strict=True):
        cells += [None, None] if seconds is None or first is None else [1e3 * seconds, seconds / first]
    return cells


def _notes(graphs: Sequence[Graph]) -> list[str]:
    versions = next((graph.versions for graph in graphs if graph.versions), {})
    tools = ", ".join(f"{name} {number}" for name, number in versions.items())
    return [
        f"time: of one execution, over that of the exported graph; {CONTROL}: the same file again, so its distance "
        "from 1 is noise. As written: without ONNX Runtime's own graph optimization. A graph that gives different "
        "results is not run.",
        f"auto-optimizer: its enabled rewrite rules ({tools or 'none matched'}).",
        *(f"{graph.name}: changed by {', '.join(graph.changed_by) or 'nothing'}." for graph in graphs[2:]),
    ]
