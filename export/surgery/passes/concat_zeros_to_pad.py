"""The pass that turns zero blocks joined by Concat into Pad."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from export.surgery.pass_types import Options
from export.surgery.shapes import resolved
from export.surgery.values import add_constant, drop_unused, fresh_name, is_zero_block, opset

__all__ = ["concat_zeros_to_pad"]

_PAD_WITH_INPUTS = 11


def concat_zeros_to_pad(model: ir.Model, options: Options) -> bool:
    """Pad a value instead of joining constant zero blocks to its ends by Concat.

    Rewritten: a Concat of one computed value with constants of zeros before it, after it or both, into
    `Pad(value)`. The zeros then need no constant, which would grow with the batch (53 MB for TSM at batch 8).

    Not rewritten: a Concat of several computed values, one with a constant that is not all zero, graphs
    older than opset 11, whose Pad is a different operator.
    """
    if opset(model) < _PAD_WITH_INPUTS:
        return False
    known = resolved(model)
    concats = [node for node in model.graph if not node.domain and node.op_type == "Concat"]
    padded = [node for node in concats if _pad_instead(model.graph, node, known)]
    drop_unused(model)
    return bool(padded)


def _pad_instead(graph: ir.Graph, node: ir.Node, known: Mapping[str, ir.Value]) -> bool:
    zero_blocks = [is_zero_block(value) for value in node.inputs]
    shapes = [value.shape for value in (known.get(str(item.name)) for item in node.inputs if item) if value]
    if (
        len(zero_blocks) < 2
        or zero_blocks.count(False) != 1
        or len(shapes) != len(zero_blocks)
        or None in shapes
    ):
        return False
    middle = zero_blocks.index(False)
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
    _replace(graph, node, pad)
    return True


def _replace(graph: ir.Graph, old: ir.Node, new: ir.Node) -> None:
    name = old.outputs[0].name
    old.outputs[0].name = fresh_name(graph, f"{name}_replaced")
    new.outputs[0].name = name
    new.outputs[0].shape, new.outputs[0].type = old.outputs[0].shape, old.outputs[0].type
    graph.insert_before(old, new)
    old.outputs[0].replace_all_uses_with(new.outputs[0], replace_graph_outputs=True)
    graph.remove(old, safe=True)
