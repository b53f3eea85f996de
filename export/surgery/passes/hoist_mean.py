"""The pass that averages rows before the linear layer instead of after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from export.surgery.pass_types import Options
from export.surgery.shapes import record_shapes, resolved
from export.surgery.values import (
    add_constant,
    constant,
    drop_unused,
    insert_mean,
    insert_node,
    only_use,
    reduced_axes,
    static_dims,
)

__all__ = ["hoist_mean"]


Dims = tuple[int, ...]


@dataclass(frozen=True)
class _RowMean:
    """A mean: `output`, [rows, features], averages each `count` rows of `source`, [rows * count, features]."""

    source: ir.Value
    rows: int
    count: int
    features: int
    output: ir.Value
    last: ir.Node


def hoist_mean(model: ir.Model, options: Options) -> bool:
    """Average the rows of frames and clips once, before the fully connected layer.

    Rewritten, until nothing more matches, where a mean is `Reshape` of [rows * n, features] to [rows, n, features] and
    `ReduceMean` over dimension 1:

    1. the mean of a linear layer's rows (Gemm or MatMul with constant weights, Add of a constant row) becomes the
       layer of the mean row: one product per sample instead of one per frame, 48 for TSM on Something-Something;
    2. the mean of means over equally many rows becomes one mean.

    Both are mathematically equal; float32 results differ by rounding. Not rewritten: a mean of anything else, such as
    Softmax; a mean of rows with further users; unknown sizes.
    """
    known = resolved(model)
    modified = False
    while _rewrite_one(model, known):
        modified = True
    if modified:
        record_shapes(model)
    return modified


def _rewrite_one(model: ir.Model, known: Mapping[str, ir.Value]) -> bool:
    """Return whether a mean was hoisted; new values keep names and shapes of the old ones, so `known` stays valid."""
    means = {mean.output: mean for node in model.graph if (mean := _row_mean(node, known)) is not None}
    for mean in means.values():
        inner = means.get(mean.source)
        layers = _linear_layers(mean.source, mean.rows * mean.count)
        if inner is not None and only_use(mean.source) is not None:
            dims = (mean.rows, mean.count * inner.count, inner.features)
            value = _insert(model, inner.last, inner.source, dims, name=f"{mean.output.name}_hoisted")
            _replace(mean.output, value)
            return drop_unused(model)
        if layers:
            source = layers[0].inputs[0]
            features = (None if source is None else _dims(source, known)) or (0,)
            dims = (mean.rows, mean.count, features[-1])
            value = _insert(model, layers[0], source, dims, name=f"{mean.output.name}_hoisted")
            layers[0].replace_input_with(0, value)
            _replace(mean.output, layers[-1].outputs[0])
            return drop_unused(model)
    return False


def _row_mean(node: ir.Node, known: Mapping[str, ir.Value]) -> _RowMean | None:
    if node.domain or node.op_type != "ReduceMean" or node.inputs[0] is None:
        return None
    reshape = node.inputs[0].producer()
    source = None if reshape is None else reshape.inputs[0]
    if reshape is None or source is None or reshape.op_type != "Reshape" or only_use(node.inputs[0]) is None:
        return None
    before, dims = _dims(source, known), _dims(node.inputs[0], known)
    if before is None or dims is None or len(dims) != 3 or reduced_axes(node) not in ([1], [-2]):
        return None
    keepdims = node.attributes.get("keepdims")
    if keepdims is None or keepdims.as_int():
        squeeze = only_use(node.outputs[0])
        if squeeze is None or squeeze.op_type != "Squeeze" or reduced_axes(squeeze) not in ([1], [-2]):
            return None
        node = squeeze
    if before != (dims[0] * dims[1], dims[2]):
        return None
    return _RowMean(source, *dims, node.outputs[0], node)


def _linear_layers(value: ir.Value, rows: int) -> list[ir.Node]:
    """Return the chain of linear layers, first to last, that computes `value` and has no further users."""
    layers: list[ir.Node] = []
    node = value.producer()
    while node is not None and only_use(node.outputs[0]) is not None and _is_linear(node, rows):
        layers.insert(0, node)
        node = None if node.inputs[0] is None else node.inputs[0].producer()
    return layers


def _is_linear(node: ir.Node, rows: int) -> bool:
    if node.domain or node.op_type not in ("Add", "Gemm", "MatMul"):
        return False
    constants = [constant(value) for value in node.inputs[1:]]
    transposed = node.attributes.get("transA")
    if any(array is None for array in constants) or (transposed is not None and transposed.as_int()):
        return False
    weights = constants[0]
    if node.op_type == "MatMul":
        return weights is not None and weights.ndim == 2
    added = constants[-1] if node.op_type == "Add" or len(constants) == 2 else None
    return added is None or added.ndim < 2 or (added.ndim == 2 and added.shape[0] == 1)


def _insert(
    model: ir.Model, before: ir.Node, source: ir.Value | None, dims: tuple[int, int, int], *, name: str
) -> ir.Value:
    """Return the mean of `source`, reshaped to `dims`, over dimension 1."""
    shape = add_constant(model.graph, f"{name}_shape", np.array(dims, dtype=np.int64))
    rows = insert_node(model.graph, before, "Reshape", [source, shape], name=f"{name}_rows")
    mean = insert_mean(model, before, rows, [1], name=name)
    rows.shape, mean.shape = ir.Shape(dims), ir.Shape((dims[0], dims[2]))
    return mean


def _replace(old: ir.Value, new: ir.Value) -> None:
    """Replace `old` by `new`, which takes its name."""
    name = old.name
    old.name, new.name = f"{name}_replaced", name
    new.type = old.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def _dims(value: ir.Value, known: Mapping[str, ir.Value]) -> Dims | None:
    return static_dims(known.get(str(value.name), value))
