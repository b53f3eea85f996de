"""The pass that computes equal nodes once and keeps equal weights once."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from export.surgery.pass_types import Options
from export.surgery.values import free_constants

__all__ = ["common_subexpression_elimination"]


def common_subexpression_elimination(model: ir.Model, options: Options) -> bool:
    """Merge nodes that compute the same thing and initializers that hold the same elements.

    Rewritten:

    1. initializers equal in type, shape and bits are merged;
    2. nodes equal in operator, attributes and inputs are merged into the first.

    Not rewritten: nodes with subgraphs, random operators.
    """
    modified = free_constants(model)
    modified |= common.DeduplicateInitializersPass(size_limit=1 << 31)(model).modified
    modified |= common.CommonSubexpressionEliminationPass()(model).modified
    return modified
