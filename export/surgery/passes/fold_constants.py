"""The pass that computes at build time what does not depend on the input."""

from __future__ import annotations

import onnx_ir as ir

from export.surgery.pass_types import Options
from export.surgery.shapes import fold, forget_shapes, record_shapes
from export.surgery.values import drop_unused, free_constants

__all__ = ["fold_constants"]


def fold_constants(model: ir.Model, options: Options) -> bool:
    """Compute everything that follows from constants and static shapes alone.

    Rewritten:

    1. weights listed among the graph's inputs (IR 3, `keep_initializers_as_inputs`) become weights only;
    2. Shape of a value whose shape is known, and everything computed from it (the exporter's chains of Gather, Div,
       Cast, Mul, Unsqueeze, Concat); any node of constants, ConstantOfShape included;
    3. Constant nodes become initializers;
    4. a Reshape or Cast that changes nothing is removed.

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
