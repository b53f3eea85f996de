"""The pass that writes a batch size into a graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from export.surgery.pass_types import Options
from export.surgery.shapes import record_shapes, resolved
from export.surgery.values import (
    add_constant,
    batch_of,
    constant,
    data_input,
    drop_unused,
    integers,
    rows_per_sample,
    static_dims,
)
from vidom.errors import BadDataError, UsageError

__all__ = ["set_batch"]

Shape = tuple[int, ...]
# Operators that return the shape of a tensor; what follows them is not data of the samples.
_ABOUT_SHAPES = ("Shape", "Size")
# Operators whose second input is the shape of their output.
_SHAPED_BY_INPUT = ("Reshape", "Expand")


def set_batch(model: ir.Model, options: Options) -> bool:
    """Set the batch size to `options.batch_size` and adapt every shape; None changes nothing.

    Rewritten, from the data input to the outputs:

    1. dimension 0 of the data input, whether a number or a symbol; in a model for AIPP it becomes the number of
       frames;
    2. the target of every Reshape and Expand becomes a complete constant, its dimension 0 multiplied by
       new batch / old batch, whether it was a constant with the old batch size, a constant with -1, or
       computed by Shape and Gather;
    3. constant blocks joined to the data by Concat whose dimension 0 is that of the old batch, if they are equal
       for every sample, as zero blocks are.

    Not rewritten: anything else. Every value that depends on the data must end up with dimension 0
    multiplied and the others unchanged; where one does not, the batch size is hard-coded (a Slice, a Pad or a
    Squeeze of the batch axis, a constant that differs between samples, a transposed batch), and BadDataError
    names that node. A symbolic batch is assumed to allow 1.

    Raises UsageError for a batch below 1 or an input with other unknown dimensions.
    """
    batch = options.batch_size
    if batch is None:
        return False
    if batch < 1:
        raise UsageError(f"The batch must be at least 1, found {batch}.")
    entry = data_input(model)
    old = _old_batch(model, entry)
    before = resolved(model, batch=old)
    data = _data_values(model, entry)
    expected = {str(value.name): _scaled(value, before, old=old, new=batch) for value in data}
    modified = _declare(entry, batch * rows_per_sample(model))
    for node in [value.producer() for value in data]:
        if node is not None and not node.domain and node.op_type in _SHAPED_BY_INPUT:
            modified |= _write_target(model.graph, node, expected)
        elif node is not None and not node.domain and node.op_type == "Concat":
            modified |= _retile(model.graph, node, expected, old=old, new=batch)
        elif node is not None and not node.domain and node.op_type == "Pad" and batch != old:
            _reject_moved_frames(node, old=old, new=batch)
    if modified:
        drop_unused(model)
    _confirm(model, data, expected, old=old, new=batch)
    if modified:
        record_shapes(model)
    return modified


def _old_batch(model: ir.Model, entry: ir.Value) -> int:
    dims = tuple(entry.shape or ())
    unknown = [axis for axis, dim in enumerate(dims) if axis and not isinstance(dim, int)]
    if unknown:
        raise UsageError(
            f"The input {entry.name} has unknown sizes at dimension {', '.join(map(str, unknown))} of "
            f"{entry.shape}; only the batch, dimension 0, may be symbolic. Set the others: --input_shape "
            f"{entry.name}:1,8,3,224,224."
        )
    return batch_of(model) or 1


def _data_values(model: ir.Model, entry: ir.Value) -> list[ir.Value]:
    """Return `entry` and the values computed from its elements, in the order of computation."""
    found = {entry: None}
    for node in model.graph:
        about_shapes = not node.domain and node.op_type in _ABOUT_SHAPES
        if not about_shapes and any(value in found for value in node.inputs if value is not None):
            found.update(dict.fromkeys(node.outputs))
    return list(found)


def _scaled(value: ir.Value, before: Mapping[str, ir.Value], *, old: int, new: int) -> Shape:
    known = before.get(str(value.name))
    dims = None if known is None else static_dims(known)
    # At the batch size that the graph has already, frames may be in any order.
    if not dims or (new != old and dims[0] % old):
        found = "unknown" if known is None else known.shape
        raise BadDataError(
            f"Batch size {new} cannot be set in this graph: the shape of {value.name}, computed by "
            f"{_title(value)}, is {found} at batch size {old}, where dimension 0 should be a multiple of {old}. "
            f"Export the model at batch size {new} instead."
        )
    return dims if new == old else (dims[0] // old * new, *dims[1:])


def _declare(entry: ir.Value, rows: int) -> bool:
    dims = tuple(entry.shape or ())
    entry.shape = ir.Shape([rows, *dims[1:]])
    return dims[0] != rows


def _write_target(graph: ir.Graph, node: ir.Node, expected: Mapping[str, Shape]) -> bool:
    target = list(expected[str(node.outputs[0].name)])
    if integers(node.inputs[1]) == target:
        return False
    name = f"{node.outputs[0].name}_shape"
    node.replace_input_with(1, add_constant(graph, name, np.array(target, dtype=np.int64)))
    return True


def _retile(graph: ir.Graph, node: ir.Node, expected: Mapping[str, Shape], *, old: int, new: int) -> bool:
    lead = expected[str(node.outputs[0].name)][0]
    modified = False
    for index, value in enumerate(node.inputs):
        block = constant(value)
        if value is None or block is None or not block.ndim or block.shape[0] != lead // new * old:
            continue
        if lead == block.shape[0] or (block != block[:1]).any():
            continue
        tiled = np.broadcast_to(block[:1], (lead, *block.shape[1:])).copy()
        node.replace_input_with(index, add_constant(graph, f"{value.name}_bs{new}", tiled))
        modified = True
    return modified


def _reject_moved_frames(pad: ir.Node, *, old: int, new: int) -> None:
    pads = integers(pad.inputs[1]) if len(pad.inputs) > 1 else None
    if pads and (pads[0] or pads[len(pads) // 2]):
        raise BadDataError(
            f"Batch size {new} cannot be set in this graph: {_title(pad.outputs[0])} moves frames by a distance that "
            f"is valid for batch size {old} only, as after surgery for it. Use the exported graph instead."
        )


def _confirm(
    model: ir.Model, data: list[ir.Value], expected: Mapping[str, Shape], *, old: int, new: int
) -> None:
    advice = (
        f"The batch size {old} of the export is hard-coded in that node; export at batch size {new} instead."
    )
    try:
        after = resolved(model)
    except BadDataError as error:
        raise BadDataError(f"Batch size {new} cannot be set in this graph. {error} {advice}") from None
    for value in data:
        # Removing an Identity renames its input.
        known, wanted = after.get(str(value.name)), expected.get(str(value.name))
        if known is not None and wanted is not None and static_dims(known) != wanted:
            raise BadDataError(
                f"Batch size {new} cannot be set in this graph: {_title(value)} gives {known.shape} where "
                f"{list(wanted)} is expected. {advice}"
            )


def _title(value: ir.Value) -> str:
    node = value.producer()
    return (
        "the graph's input"
        if node is None
        else f"the node {node.name or node.outputs[0].name} ({node.op_type})"
    )
