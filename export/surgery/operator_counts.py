"""Number of nodes of each operator of a graph, before and after surgery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import onnx_ir as ir

__all__ = ["OperatorCounts", "count_operators", "operator_table"]

OperatorCounts = Mapping[str, int]


def count_operators(model: ir.Model) -> OperatorCounts:
    """Return the number of nodes by operator, subgraphs included; operators of other domains as `domain::Op`."""
    nodes = ir.traversal.RecursiveGraphIterator(model.graph)
    return dict(Counter(f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in nodes))


def operator_table(before: OperatorCounts, after: OperatorCounts) -> str:
    """Return an aligned table of both counts, the most frequent operators first, with a total."""
    operators = sorted({*before, *after}, key=lambda op: (-before.get(op, 0), -after.get(op, 0), op))
    rows = [(op, before.get(op, 0), after.get(op, 0)) for op in operators]
    rows.append(("total", sum(before.values()), sum(after.values())))
    width = max(len("operator"), *(len(op) for op, _, _ in rows))
    lines = [f"{'operator':<{width}}  before   after  change"]
    lines += [f"{op:<{width}}  {old:>6}  {new:>6}  {_change(new - old):>6}" for op, old, new in rows]
    return "\n".join(lines)


def _change(difference: int) -> str:
    return f"{difference:+d}" if difference else ""
