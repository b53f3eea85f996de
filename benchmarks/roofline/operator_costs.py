"""Costs of each operator of a graph: multiply-adds, and bytes to and from memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from export.surgery.shapes import resolved
from vidom.errors import BadDataError

__all__ = ["OpCost", "op_costs"]

# These rename or reshape their input, or concern shapes only: no byte of a tensor moves.
_FREE = frozenset({"Constant", "Dropout", "Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze"})
# These read only the part of their first input that they write.
_SELECTING = frozenset({"Gather", "Slice"})
_MOVING = frozenset({"Concat", "Expand", "Gather", "Pad", "Slice", "Split", "Tile", "Transpose"})
_REDUCING = frozenset({
    "AveragePool", "GlobalAveragePool", "MaxPool", "ReduceMax", "ReduceMean", "ReduceSum", "Softmax"
})  # fmt: skip


@dataclass(frozen=True)
class OpCost:
    """One operator: `multiply_adds`, and the bytes it reads, including weights, and writes without fusion.

    Sums, maxima and similar arithmetic is not counted: such operators are memory-bound.
    """

    name: str
    kind: str
    multiply_adds: int
    read_bytes: int
    written_bytes: int

    @property
    def flops(self) -> int:
        """Floating-point operations: a multiply-add is two."""
        return 2 * self.multiply_adds

    @property
    def moved_bytes(self) -> int:
        """Bytes read and written."""
        return self.read_bytes + self.written_bytes


def op_costs(model: ir.Model, *, batch: int | None = None) -> tuple[OpCost, ...]:
    """Return the cost of each operator of `model` in its order; `batch` replaces a symbolic one.

    `kind` is a convolution with its kernel ("Conv 3×3"), "Gemm and MatMul", "moving" (Slice, Concat, …), "pooling
    and reduction", "elementwise", or "free" for operators that move nothing. A tensor that is an input twice is
    read once. Raises BadDataError when a required shape is unknown, or for a graph with subgraphs.
    """
    values = resolved(model, batch=batch)
    return tuple(_cost(node, values) for node in model.graph)


def _cost(node: ir.Node, values: Mapping[str, ir.Value]) -> OpCost:
    if any(attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attribute in
           node.attributes.values() if isinstance(attribute, ir.Attr)):  # fmt: skip
        raise BadDataError(f"The operator {_named(node)} has subgraphs, whose costs depend on the data.")
    written = sum(_bytes(value, values, node) for value in node.outputs if value.name)
    kind = _kind(node, values)
    if kind == "free":
        return OpCost(str(node.name), kind, 0, 0, 0)
    if node.op_type in _SELECTING:
        read = written
    else:
        inputs = {value.name: value for value in node.inputs if value is not None and value.name}
        read = sum(_bytes(value, values, node) for value in inputs.values())
    return OpCost(str(node.name), kind, _multiply_adds(node, values), read, written)


def _kind(node: ir.Node, values: Mapping[str, ir.Value]) -> str:
    if node.op_type == "Conv":
        weights = _shape(node.inputs[1], values, node)
        groups = node.attributes.get_int("group", 1)
        return f"Conv {'×'.join(map(str, weights[2:]))}" + (f", {groups} groups" if groups > 1 else "")
    if node.op_type in ("Gemm", "MatMul"):
        return "Gemm and MatMul"
    for kind, operators in (("free", _FREE), ("moving", _MOVING), ("pooling and reduction", _REDUCING)):
        if node.op_type in operators:
            return kind
    return "elementwise"


def _multiply_adds(node: ir.Node, values: Mapping[str, ir.Value]) -> int:
    if node.op_type == "Conv":
        # Each output value sums over its group's channels and the kernel: the weights' shape without the first axis.
        terms = math.prod(_shape(node.inputs[1], values, node)[1:])
    elif node.op_type == "Gemm":
        terms = _shape(node.inputs[0], values, node)[0 if node.attributes.get_int("transA", 0) else 1]
    elif node.op_type == "MatMul":
        terms = _shape(node.inputs[0], values, node)[-1]
    else:
        return 0
    return terms * math.prod(_shape(node.outputs[0], values, node))


def _bytes(value: ir.Value, values: Mapping[str, ir.Value], node: ir.Node) -> int:
    dtype = values[str(value.name)].dtype
    if dtype is None:
        raise BadDataError(f"The type of {value.name} at {_named(node)} is unknown.")
    return math.ceil(math.prod(_shape(value, values, node)) * dtype.bitwidth / 8)


def _shape(value: ir.Value | None, values: Mapping[str, ir.Value], node: ir.Node) -> tuple[int, ...]:
    shape = values[str(value.name)].shape if value is not None else None
    if shape is None or not shape.is_static():
        named = "an input" if value is None else value.name
        raise BadDataError(
            f"The shape of {named} at {_named(node)} is {shape}; all dimensions must be known. If the batch is "
            "symbolic, give its size."
        )
    return tuple(int(str(size)) for size in shape)


def _named(node: ir.Node) -> str:
    return f"{node.name or 'without name'} ({node.op_type})"
