"""A graph in bfloat16 as one in float32, which contains all numbers of bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
import onnx_ir as ir

__all__ = ["widen_bfloat16"]

# Attributes that name the type of a result: of Cast, and of ConstantOfShape's and EyeLike's relatives.
_TYPES = ("dtype", "to")


def widen_bfloat16(model: ir.Model) -> bool:
    """Make every bfloat16 of `model` a float32; return whether there was one.

    Weights keep their values. Results are no longer rounded to bfloat16.
    """
    widened = False
    for value in _values(model):
        if value.dtype == ir.DataType.BFLOAT16:
            # A clone shares the types of its original, so that they are replaced and not changed.
            value.type = ir.TensorType(ir.DataType.FLOAT)
            widened = True
        tensor = value.const_value
        if tensor is not None and tensor.dtype == ir.DataType.BFLOAT16:
            value.const_value = _widened(tensor)
            widened = True
    for node in _nodes(model):
        for name, attribute in tuple(node.attributes.items()):
            if (
                attribute.type == ir.AttributeType.TENSOR
                and attribute.as_tensor().dtype == ir.DataType.BFLOAT16
            ):
                node.attributes[name] = ir.AttrTensor(name, _widened(attribute.as_tensor()))
            elif name in _TYPES and attribute.value == ir.DataType.BFLOAT16:
                node.attributes[name] = ir.AttrInt64(name, ir.DataType.FLOAT)
            else:
                continue
            widened = True
    return widened


def _widened(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype(np.float32), name=tensor.name)


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    graphs = (model.graph, *(function.graph for function in model.functions.values()))
    return chain.from_iterable(ir.traversal.RecursiveGraphIterator(graph) for graph in graphs)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in {model.graph, *(node.graph for node in _nodes(model) if node.graph is not None)}:
        yield from graph.inputs
        if isinstance(graph, ir.Graph):
            yield from graph.initializers.values()
    for node in _nodes(model):
        yield from node.outputs
