"""The number format in which a graph computes."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from vidom.parity import NumberFormat

__all__ = ["number_format"]

_QUANTIZED = (
    *("ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger"),
    *("QGemm", "QLinearAdd", "QLinearConv", "QLinearMatMul", "QuantizeLinear"),
)
_REDUCED: dict[ir.DataType, NumberFormat] = {
    ir.DataType.BFLOAT16: "bfloat16",
    ir.DataType.FLOAT16: "float16",
}


def number_format(model: ir.Model) -> NumberFormat:
    """Return the least precise format in which `model` computes, which decides how far its results may be off.

    int8 if it has quantization operators or integer convolutions; otherwise bfloat16 or float16 if an input, a weight,
    a constant or the target of a Cast has that type; float32 else. A uint8 input of pixels is not int8 arithmetic.
    """
    nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
    if any(node.op_type in _QUANTIZED for node in nodes):
        return "int8"
    found = {*_value_types(model), *_node_types(nodes)}
    return next((name for dtype, name in _REDUCED.items() if dtype in found), "float32")


def _value_types(model: ir.Model) -> Iterator[ir.DataType]:
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        if value.dtype is not None:
            yield value.dtype
        if value.const_value is not None:
            yield value.const_value.dtype


def _node_types(nodes: list[ir.Node]) -> Iterator[ir.DataType]:
    for node in nodes:
        if node.op_type == "Cast":
            yield ir.DataType(node.attributes["to"].as_int())
        elif node.op_type == "Constant" and "value" in node.attributes:
            yield node.attributes["value"].as_tensor().dtype
