"""Queries of the values of a graph, and insertion of constants and nodes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common

from vidom.errors import BadDataError
from vidom.formats.aipp import read_aipp

# From this opset on ReduceMean takes its axes as an input.
_AXES_AS_INPUT = 18

__all__ = [
    "add_constant",
    "batch_of",
    "computed_by",
    "constant",
    "data_input",
    "drop_unused",
    "free_constants",
    "fresh_name",
    "insert_mean",
    "insert_node",
    "integers",
    "is_zero_block",
    "only_use",
    "opset",
    "reduced_axes",
    "rows_per_sample",
    "static_dims",
]


def data_input(model: ir.Model) -> ir.Value:
    """Return the only input that is not a weight; its dimension 0 is the batch size times `rows_per_sample`.

    Raises BadDataError when the graph has none or several, or when that input has no dimensions.
    """
    inputs = [value for value in model.graph.inputs if not value.is_initializer()]
    if len(inputs) != 1:
        names = ", ".join(str(value.name) for value in inputs) or "none"
        raise BadDataError(
            f"The graph should have one input other than its weights, found {len(inputs)}: {names}."
        )
    if not inputs[0].shape:
        raise BadDataError(
            f"The input {inputs[0].name} of the graph has no dimensions; the first should be the batch."
        )
    return inputs[0]


def rows_per_sample(model: ir.Model) -> int:
    """Return how many rows of the data input are one sample: its frames in a model for AIPP, else 1."""
    aipp = read_aipp(model.metadata_props, origin=f"the graph {model.graph.name}")
    return aipp.frames_per_sample if aipp else 1


def batch_of(model: ir.Model) -> int | None:
    """Return the batch size in samples, None if dimension 0 of the data input is symbolic.

    Raises BadDataError when dimension 0 is not a multiple of a sample.
    """
    entry, rows = data_input(model), rows_per_sample(model)
    dims = tuple(entry.shape or ())
    if not isinstance(dims[0], int):
        return None
    lead = dims[0]
    if lead % rows:
        raise BadDataError(
            f"The input {entry.name} takes {lead} frames, which is not a multiple of the {rows} frames per sample that "
            "the metadata of the model state. Export it again."
        )
    return lead // rows


def opset(model: ir.Model) -> int:
    """Return the version of the standard operator set that the graph uses."""
    return int(model.graph.opset_imports.get("", 1))


def static_dims(value: ir.Value) -> tuple[int, ...] | None:
    """Return the dimensions of `value`, None unless all of them are numbers."""
    if value.shape is None:
        return None
    dims = tuple(value.shape)
    return tuple(int(dim) for dim in dims if isinstance(dim, int)) if value.shape.is_static() else None


def constant(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """Return the elements of an initializer or Constant, None for any other value.

    An initializer that is also an input of the graph counts: it is a weight with a default that nothing overrides.
    """
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def integers(value: ir.Value | None) -> list[int] | None:
    """Return the elements of a constant vector of integers, None for any other value."""
    elements = constant(value)
    if elements is None or elements.ndim > 1 or elements.dtype.kind not in "iu":
        return None
    return [int(element) for element in elements.reshape(-1)]


def is_zero_block(value: ir.Value | None) -> bool:
    """Return whether `value` is a constant all of whose bits are zero, unlike -0.0, which Pad does not write."""
    elements = constant(value)
    return (
        elements is not None
        # NumPy has no bfloat16; to it, the type is one of raw bytes.
        and elements.dtype.kind in "fiuV"
        and not np.frombuffer(elements.tobytes(), np.uint8).any()
    )


def computed_by(value: ir.Value | None) -> ir.Node | None:
    """Return the node that computes `value`, from before the quantization that its result may have gone through."""
    node = None if value is None else value.producer()
    while node is not None and node.op_type in ("DequantizeLinear", "QuantizeLinear"):
        node = None if node.inputs[0] is None else node.inputs[0].producer()
    return node


def reduced_axes(node: ir.Node) -> list[int] | None:
    """Return the axes of a ReduceMean, Squeeze or the like, in either spelling; None when not constant."""
    attribute = node.attributes.get("axes")
    if attribute is not None:
        return list(attribute.as_ints())
    return integers(node.inputs[1]) if len(node.inputs) > 1 else None


def only_use(value: ir.Value) -> ir.Node | None:
    """Return the only node that uses `value`, None if there are several or the value is an output of the graph."""
    consumers = value.consumers()
    return consumers[0] if len(consumers) == 1 and not value.is_graph_output() else None


def fresh_name(graph: ir.Graph, base: str) -> str:
    """Return `base`, or `base_2`, `base_3`... if the graph has a value of that name."""
    taken = {value.name for value in chain(graph.inputs, *(node.outputs for node in graph))}
    taken.update(graph.initializers)
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    return name


def add_constant(graph: ir.Graph, name: str, elements: npt.NDArray[Any]) -> ir.Value:
    """Return a new initializer of `graph` with these elements, named `name` or the next free name."""
    tensor = ir.tensor(elements, name=fresh_name(graph, name))
    value = ir.Value(name=tensor.name, shape=ir.Shape(elements.shape), type=ir.TensorType(tensor.dtype))
    value.const_value = tensor
    graph.register_initializer(value)
    return value


def insert_node(
    graph: ir.Graph,
    before: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    *,
    name: str,
    **attributes: int | str | Sequence[int],
) -> ir.Value:
    """Insert a node and return its output.

    Args:
        graph: the graph to change.
        before: the node before which the new one is inserted.
        op_type: the operator of the new node.
        inputs: its inputs.
        name: the name of the node and its output, or the base of the next free name.
        attributes: its attributes.
    """
    output = ir.Value(name=fresh_name(graph, name))
    node = ir.node(op_type, inputs, attributes=attributes, outputs=[output], name=output.name)
    graph.insert_before(before, node)
    return output


def insert_mean(
    model: ir.Model, before: ir.Node, value: ir.Value | None, axes: Sequence[int], *, name: str
) -> ir.Value:
    """Return the mean of `value` over `axes`, which are removed, computed before `before`; see `insert_node`."""
    if opset(model) < _AXES_AS_INPUT:
        return insert_node(model.graph, before, "ReduceMean", [value], name=name, axes=list(axes), keepdims=0)
    numbers = add_constant(model.graph, f"{name}_axes", np.array(axes, dtype=np.int64))
    return insert_node(model.graph, before, "ReduceMean", [value, numbers], name=name, keepdims=0)


def free_constants(model: ir.Model) -> bool:
    """Remove weights from the inputs, turn Constants into initializers; return whether anything changed."""
    freed = common.RemoveInitializersFromInputsPass()(model).modified
    lifted = common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model).modified
    return freed or lifted


def drop_unused(model: ir.Model) -> bool:
    """Remove unused nodes and initializers, and Identity nodes; return whether anything changed."""
    identities = common.IdentityEliminationPass()(model).modified
    unused = common.RemoveUnusedNodesPass()(model).modified
    return identities or unused
