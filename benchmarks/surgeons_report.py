"""The comparison of surgeons as Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.surgeons_rows import Conditions, Graph

__all__ = ["document", "markdown"]


def markdown(graphs: Sequence[Graph], under: Conditions) -> str:
    """Return the table, a column for each operator that any surgeon changed, and below it what its numbers are."""
    operators = _changed(graphs)
    head = ["graph", "ops", *operators, "time", "time as written", "max abs diff"]
    lines = [
        f"# Two surgeons on {under.model}",
        "",
        "| " + " | ".join(head) + " |",
        "|---|" + "---:|" * (len(head) - 2) + "---|",
        *("| " + " | ".join(_cells(graph, graphs[0], operators)) + " |" for graph in graphs),
        "",
        *(f"- {text}" for text in _definitions(graphs, under)),
    ]
    return "\n".join(lines) + "\n"


def document(graphs: Sequence[Graph], under: Conditions) -> dict[str, Any]:
    """Return the comparison for programs."""
    return {
        "schema": 1,
        "npu_used": False,
        **asdict(under),
        "definitions": _definitions(graphs, under),
        "graphs": [
            {
                **asdict(graph),
                "ops": sum(graph.operators.values()),
                "passed": graph.passed,
                "ratio_optimised": _ratio(graph.seconds_optimised, graphs[0].seconds_optimised),
                "ratio_as_written": _ratio(graph.seconds_as_written, graphs[0].seconds_as_written),
            }
            for graph in graphs
        ],
    }


def _changed(graphs: Sequence[Graph]) -> list[str]:
    """Return the operators whose number is not the same in all graphs, the most frequent in the first one first."""
    names = {name for graph in graphs for name in graph.operators}
    changed = [name for name in names if len({graph.operators.get(name, 0) for graph in graphs}) > 1]
    return sorted(changed, key=lambda name: (-graphs[0].operators.get(name, 0), name))


def _cells(graph: Graph, exported: Graph, operators: Sequence[str]) -> list[str]:
    return [
        graph.name,
        str(sum(graph.operators.values())),
        *(str(graph.operators.get(name, 0)) for name in operators),
        _shown(_ratio(graph.seconds_optimised, exported.seconds_optimised)),
        _shown(_ratio(graph.seconds_as_written, exported.seconds_as_written)),
        _parity(graph),
    ]


def _ratio(seconds: float | None, exported: float | None) -> float | None:
    return None if seconds is None or exported is None else seconds / exported


def _shown(ratio: float | None) -> str:
    return "not run" if ratio is None else f"{ratio:.3f}"


def _parity(graph: Graph) -> str:
    if not graph.differences:
        return "the original"
    told = ", ".join(f"{item.what.split(' before ')[0]} {item.max_abs:.2g}" for item in graph.differences)
    return told if graph.passed else f"FAILED: {told}"


def _definitions(graphs: Sequence[Graph], under: Conditions) -> list[str]:
    exported = graphs[0]
    versions = next((graph.versions for graph in graphs if graph.versions), {})
    tools = ", ".join(f"{name} {number}" for name, number in versions.items())
    seconds = [
        f"{value * 1e3:.4g} ms"
        for value in (exported.seconds_optimised, exported.seconds_as_written)
        if value is not None
    ]
    texts = [
        f"time: of one execution, divided by that of the graph as exported ({' and '.join(seconds)}), each the fastest "
        f"of {under.rounds} in turn with all others; time as written: without ONNX Runtime's own rewriting of graphs. "
        f"{graphs[1].name}: the same file again, so how far it is from 1 is how far numbers are from one another "
        "by chance.",
        f"ONNX Runtime {under.onnxruntime} on {under.processor}, {under.threads} "
        f"thread{'s' if under.threads > 1 else ''}, input {' × '.join(map(str, under.input_shape))}. No NPU took part.",
        "max abs diff: from the graph as exported, on random samples.",
        f"auto-optimizer: the knowledges that it applies unasked ({tools or 'none fitted'}).",
    ]
    return texts + [
        f"{graph.name}: changed by {', '.join(graph.changed_by) or 'nothing'}." for graph in graphs[2:]
    ]
