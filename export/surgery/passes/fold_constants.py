"""The passes that compute beforehand what can be, and once what is computed twice."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from export.surgery.pass_types import Options
from export.surgery.shapes import fold, forget_shapes, record_shapes
from export.surgery.values import drop_unused, free_constants

__all__ = ["fold_constants", "share_duplicates"]


def fold_constants(model: ir.Model, options: Options) -> bool:
    """Nothing that follows from constants and static shapes alone is computed at run time.

    Rewritten:

    1. weights listed among the graph's inputs (IR 3, `keep_initializers_as_inputs`) stay weights only;
    2. Shape of a value whose shape is known, and all that is computed from it (the exporter's chains of
       Gather, Div, Cast, Mul, Unsqueeze, Concat), any node of constants, ConstantOfShape included;
    3. Constant nodes become initializers;
    4. a Reshape or Cast that changes nothing goes.

    Not rewritten: what depends on a symbolic dimension, random and quantisation operators, results larger
    than 1 GiB.
    """
    modified = free_constants(model)
    stated = {value: value.shape for node in model.graph for value in node.outputs}
    forget_shapes(model)
    if fold(model) | drop_unused(model):
        modified = True
    if modified:
        record_shapes(model)
    else:
        for value, shape in stated.items():
            value.shape = shape
    return modified


def share_duplicates(model: ir.Model, options: Options) -> bool:
    """No two nodes compute the same thing and no two initializers hold the same elements.

    Rewritten:

    1. initializers equal in type, shape and bits become one;
    2. nodes equal in operator, attributes and inputs become one, the first.

    Not rewritten: nodes with subgraphs, random operators.
    """
    modified = free_constants(model)
    modified |= common.DeduplicateInitializersPass(size_limit=1 << 31)(model).modified
    modified |= common.CommonSubexpressionEliminationPass()(model).modified
    return modified
