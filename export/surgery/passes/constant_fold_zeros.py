"""The pass that turns computed zeros into constants."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from export.surgery.pass_types import Options
from export.surgery.shapes import resolved
from export.surgery.values import add_constant, drop_unused, is_zero_block, static_dims

__all__ = ["constant_fold_zeros"]

_MOVES_ELEMENTS = ("Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
# 1 GiB of float32, half of what an ONNX file can hold.
_LARGEST_BLOCK = 1 << 28


def constant_fold_zeros(model: ir.Model, options: Options) -> bool:
    """Make constants of the zeros that mmaction2's `TemporalShift` computes as `x - x`.

    Rewritten:

    1. `Sub(x, x)`, both operands the same value (`common_subexpression_elimination` merges equal ones), becomes an
       initializer of zeros of its shape;
    2. Slice, Reshape and other operators that only move elements, applied to such zeros, likewise.

    Not rewritten: a Sub whose shape is not static or exceeds 1 GiB, one that is an output of the graph.

    The results differ in one case: where x is infinite or NaN, `x - x` is NaN and the constant is 0. The shift means
    0; the original writes a subtraction only because an exporter could not handle zeros
    (mmaction/models/backbones/resnet_tsm.py).
    """
    known = resolved(model)
    zeros: dict[ir.Value, None] = {}
    for node in model.graph:
        if _gives_zeros(node, zeros) and _may_be_constant(node.outputs[0], known):
            zeros[node.outputs[0]] = None
    # In reverse order, so that zeros of which only parts are used need no constant of their own.
    for value in reversed(zeros):
        if value.uses():
            value.replace_all_uses_with(_zeros(model.graph, known[str(value.name)]))
        producer = value.producer()
        if producer is not None:
            model.graph.remove(producer, safe=True)
    drop_unused(model)
    return bool(zeros)


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
    if shared is not None and shared.dtype == dtype and static_dims(shared) == dims and is_zero_block(shared):
        return shared
    return add_constant(graph, name, np.zeros(dims, dtype=dtype.numpy()))
