"""The pass that removes what the outputs do not need."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from export.surgery.pass_types import Options
from export.surgery.values import drop_unused

__all__ = ["dead_node_elimination"]


def dead_node_elimination(model: ir.Model, options: Options) -> bool:
    """Remove everything that the outputs do not need.

    Removed:

    1. nodes and initializers that no output depends on, and Identity nodes;
    2. initializers that duplicate another one in type, shape and bits;
    3. model-local functions that nothing calls;
    4. operator set domains that no node uses. ATC accepts only one (E16005).

    Not removed: inputs and outputs; their names stay. An Identity from an input to an output stays.
    """
    modified = drop_unused(model)
    modified |= common.DeduplicateInitializersPass(size_limit=1 << 31)(model).modified
    modified |= common.RemoveUnusedFunctionsPass()(model).modified  # type: ignore[no-untyped-call]
    modified |= common.RemoveUnusedOpsetsPass()(model).modified
    return modified
