"""The passes that make the zero frames of a temporal shift cost nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from export.surgery.pass_types import Options
from export.surgery.shapes import resolved
from export.surgery.values import add_constant, constant, drop_unused, fresh_name, opset, static_dims

__all__ = ["pad_blanks", "zero_blanks"]

_MOVES_ELEMENTS = ("Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
# 1 GiB of float32, half of what an ONNX file can hold.
_LARGEST_BLOCK = 1 << 28
_PAD_WITH_INPUTS = 11


def zero_blanks(model: ir.Model, options: Options) -> bool:
    """The zeros that mmaction2's `TemporalShift` computes as `x - x` are constants.

    Rewritten:

    1. `Sub(x, x)`, both operands the same value (`share_duplicates` makes one of two equal ones), becomes an
       initializer of zeros of its shape;
    2. Slice, Reshape and other operators that only move elements, applied to such zeros, likewise.

    Not rewritten: a Sub whose shape is not static or exceeds 1 GiB, one that is an output of the graph.

    The meaning changes in one case: where x is infinite or NaN, `x - x` is NaN and the constant is 0. The
    shift means 0; the original writes a subtraction only because another exporter could not take zeros
    (mmaction/models/backbones/resnet_tsm.py).
    """
    known = resolved(model)
    zeros: dict[ir.Value, None] = {}
    for node in model.graph:
        if _gives_zeros(node, zeros) and _may_be_constant(node.outputs[0], known):
            zeros[node.outputs[0]] = None
    # From the last to the first, so that zeros which are only cut out of need no constant of their own.
    for value in reversed(zeros):
        if value.uses():
            value.replace_all_uses_with(_zeros(model.graph, known[str(value.name)]))
        producer = value.producer()
        if producer is not None:
            model.graph.remove(producer, safe=True)
    drop_unused(model)
    return bool(zeros)


def pad_blanks(model: ir.Model, options: Options) -> bool:
    """Zero blocks at the ends of a Concat are the padding of what lies between them.

    Rewritten: a Concat of one computed value with constants of zeros before it, after it or both, into
    `Pad(value)`. The zeros then need no constant, which would grow with the batch (53 MB for TSM at batch 8).

    Not rewritten: a Concat of several computed values, one with a constant that is not all zero, graphs
    older than opset 11, whose Pad is another operator.
    """
    if opset(model) < _PAD_WITH_INPUTS:
        return False
    known = resolved(model)
    concats = [node for node in model.graph if not node.domain and node.op_type == "Concat"]
    padded = [node for node in concats if _pad_instead(model.graph, node, known)]
    drop_unused(model)
    return bool(padded)


def _gives_zeros(node: ir.Node, zeros: Mapping[ir.Value, None]) -> bool:
    if node.domain or not node.inputs or len(node.outputs) != 1:
        return False
    if node.op_type == "Sub":
        return node.inputs[0] is node.inputs[1]
    return node.op_type in _MOVES_ELEMENTS and node.inputs[0] in zeros


def _may_be_constant(value: ir.Value, known: Mapping[str, ir.Value]) -> bool:
    typed = known.get(str(value.name))
    dims = None if typed is None or typed.dtype is None else static_dims(typed)
    return dims is not None and not value.is_graph_output() and math.prod(dims) <= _LARGEST_BLOCK


def _zeros(graph: ir.Graph, typed: ir.Value) -> ir.Value:
    dims = static_dims(typed) or ()
    dtype = typed.dtype or ir.DataType.FLOAT
    name = "_".join(("zeros", dtype.name.lower(), "x".join(map(str, dims)))).rstrip("_")
    shared = graph.initializers.get(name)
    if shared is not None and shared.dtype == dtype and static_dims(shared) == dims and _all_zero(shared):
        return shared
    return add_constant(graph, name, np.zeros(dims, dtype=dtype.numpy()))


def _all_zero(value: ir.Value | None) -> bool:
    elements = constant(value)
    # Bits, not numbers: a constant of -0.0 is not what Pad writes.
    return (
        elements is not None
        and elements.dtype.kind in "fiu"
        and not np.frombuffer(elements.tobytes(), np.uint8).any()
    )


def _pad_instead(graph: ir.Graph, node: ir.Node, known: Mapping[str, ir.Value]) -> bool:
    blanks = [_all_zero(value) for value in node.inputs]
    shapes = [value.shape for value in (known.get(str(item.name)) for item in node.inputs if item) if value]
    if len(blanks) < 2 or blanks.count(False) != 1 or len(shapes) != len(blanks) or None in shapes:
        return False
    middle = blanks.index(False)
    data = node.inputs[middle]
    rank = len(shapes[middle] or ())
    axis = node.attributes["axis"].as_int() % rank
    extents = [0 if shape is None else shape[axis] for shape in shapes]
    pads = np.zeros(2 * rank, dtype=np.int64)
    pads[axis] = sum(extent for extent in extents[:middle] if isinstance(extent, int))
    pads[rank + axis] = sum(extent for extent in extents[middle + 1 :] if isinstance(extent, int))
    output = node.outputs[0]
    pad = ir.node(
        "Pad",
        [data, add_constant(graph, f"{output.name}_pads", pads)],
        attributes={"mode": "constant"},
        name=f"{node.name}_pad" if node.name else None,
    )
    _take_place(graph, node, pad)
    return True


def _take_place(graph: ir.Graph, old: ir.Node, new: ir.Node) -> None:
    name = old.outputs[0].name
    old.outputs[0].name = fresh_name(graph, f"{name}_replaced")
    new.outputs[0].name = name
    new.outputs[0].shape, new.outputs[0].type = old.outputs[0].shape, old.outputs[0].type
    graph.insert_before(old, new)
    old.outputs[0].replace_all_uses_with(new.outputs[0], replace_graph_outputs=True)
    graph.remove(old, safe=True)
