"""The pass that merges consecutive Slices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from export.surgery.pass_types import Options
from export.surgery.shapes import resolved
from export.surgery.slice_bounds import Cut, cuts_of, is_slice
from export.surgery.values import add_constant, drop_unused

__all__ = ["merge_slices"]


def merge_slices(model: ir.Model, options: Options) -> bool:
    """Merge Slices of Slices with constant bounds.

    Rewritten: `Slice(Slice(x))` becomes one Slice of x over the axes of both, for chains of any length,
    in the graph's order of nodes, so that the result is reproducible.

    1. Axes in only one of the two keep their bounds.
    2. An axis in both gets the combined bounds, which needs its static size and positive steps. Listing the axis
       twice, as appending the bounds would, is invalid ONNX.
    3. The first Slice stays if it has further users and is removed otherwise.

    Not rewritten: a Slice with computed bounds, one of opset 9 or before (bounds in attributes), a shared
    axis of unknown size or with a negative step.
    """
    known = resolved(model)
    modified = False
    for node in model.graph:
        inner = node.inputs[0].producer() if is_slice(node) and node.inputs[0] is not None else None
        if inner is None or not is_slice(inner):
            continue
        merged = _merged(inner, node, known)
        if merged is not None:
            _rewrite(model.graph, node, inner.inputs[0], merged)
            modified = True
    drop_unused(model)
    return modified


def _merged(inner: ir.Node, outer: ir.Node, known: Mapping[str, ir.Value]) -> dict[int, Cut] | None:
    source = known.get(str(inner.inputs[0].name)) if inner.inputs[0] is not None else None
    if source is None or source.shape is None:
        return None
    cuts, then = cuts_of(inner, len(source.shape)), cuts_of(outer, len(source.shape))
    if cuts is None or then is None:
        return None
    for axis, cut in then.items():
        both = _both(cuts[axis], cut, source.shape[axis]) if axis in cuts else cut
        if both is None:
            return None
        cuts[axis] = both
    return cuts


def _both(first: Cut, second: Cut, size: int | ir.SymbolicDim) -> Cut | None:
    if not isinstance(size, int) or first.step < 0 or second.step < 0:
        return None
    # For positive steps Python clips bounds exactly as ONNX does.
    kept = range(size)[first.start : first.end : first.step][second.start : second.end : second.step]
    return Cut(kept.start, kept.stop, kept.step) if kept else Cut(0, 0, 1)


def _rewrite(graph: ir.Graph, node: ir.Node, source: ir.Value | None, cuts: Mapping[int, Cut]) -> None:
    axes = sorted(cuts)
    columns = {
        "starts": [cuts[axis].start for axis in axes],
        "ends": [cuts[axis].end for axis in axes],
        "axes": axes,
        "steps": [cuts[axis].step for axis in axes],
    }
    name = node.outputs[0].name
    bounds = [
        add_constant(graph, f"{name}_{column}", np.array(numbers, dtype=np.int64))
        for column, numbers in columns.items()
    ]
    node.resize_inputs(5)
    for index, value in enumerate((source, *bounds)):
        node.replace_input_with(index, value)
