"""Types and shapes of the values of a graph, inferred on a copy, and constant folding."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import onnx
import onnx_ir as ir
from onnxscript import optimizer

from export.surgery.values import data_input, free_constants, rows_per_sample, static_dims
from vidom.errors import BadDataError
from vidom.formats.onnx_file import LARGEST_TENSOR
from vidom.wording import shown

__all__ = ["fold", "forget_shapes", "record_shapes", "resolved"]

# 1 GiB of float32. Larger constants are computed at run time.
_LARGEST_CONSTANT = 1 << 28
# 8 GiB of float32: of all constants that are computed together.
_MOST_CONSTANTS = 1 << 31
# Constants of up to this many elements may determine a shape; larger ones are weights, which do not.
_LARGEST_SHAPE = 1 << 10
_FIRST_ERROR = re.compile(r"\(op_type:\s*(?P<op>\w+), node name: (?P<node>.*?)\): (?P<why>[^\n]*)")
_KEPT = ("DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear")


def resolved(model: ir.Model, *, batch: int | None = None) -> Mapping[str, ir.Value]:
    """Return, by name, every value of `model` with the type and shape inferred from its inputs.

    `batch`, if given, replaces the batch size of the data input. Shapes that the file states for inner values are
    ignored. `model` is left unchanged. Raises BadDataError when the shapes of some node contradict each other or no
    machine can hold a value.
    """
    twin = model.clone()
    if batch is not None:
        entry = data_input(twin)
        entry.shape = ir.Shape([batch * rows_per_sample(twin), *tuple(entry.shape or ())[1:]])
    free_constants(twin)
    forget_shapes(twin)
    fold(twin)
    for node in twin.graph:
        node.name = node.name or node.outputs[0].name  # so that errors can name it
    for value in twin.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.size > _LARGEST_SHAPE:
            value.const_value = _weightless(tensor, str(value.name))
    # Exporters write bfloat16 into operators that take it from opset 22 on only.
    exact = ir.DataType.BFLOAT16 not in {value.dtype for value in twin.graph.initializers.values()}
    try:
        proto = onnx.shape_inference.infer_shapes(
            ir.to_proto(twin), check_type=exact, strict_mode=True, data_prop=True
        )
    except onnx.shape_inference.InferenceError as error:
        raise BadDataError(_contradiction(str(error))) from None
    except ir.serde.SerdeError as error:  # attributes or constants that contradict their types
        raise BadDataError(
            f"The graph is not valid: {shown(error.__cause__ or error)}. Export it again."
        ) from None
    known = ir.convenience.create_value_mapping(ir.from_proto(proto).graph)
    for name, value in known.items():
        dims = static_dims(value) or ()
        if math.prod(dims) > LARGEST_TENSOR:
            raise BadDataError(
                f"The value {shown(name)} of the graph has {shown('×'.join(map(str, dims)))} elements, more than the "
                f"{LARGEST_TENSOR} that are supported. Use a smaller batch size."
            )
    return known


def forget_shapes(model: ir.Model) -> None:
    """Remove the shapes of all inner values and outputs; those of a file may be of a different batch size."""
    for node in model.graph:
        for value in node.outputs:
            value.shape = None


def record_shapes(model: ir.Model) -> None:
    """Write the inferred type and shape of every inner value and output of `model`."""
    known = resolved(model)
    for node in model.graph:
        for value in node.outputs:
            found = known.get(str(value.name))
            value.shape = None if found is None else found.shape
            if found is not None and found.type is not None:
                value.type = found.type


def fold(model: ir.Model) -> bool:
    """Replace whatever depends on constants and static shapes only by initializers; return whether anything changed.

    Nodes whose result would exceed 1 GiB or has an unknown size stay, and all after 8 GiB, so that a hostile file
    cannot exhaust memory.
    Raises BadDataError when constants cannot be computed.
    """
    try:
        folded = optimizer.fold_constants(
            model,
            onnx_shape_inference=True,
            input_size_limit=_LARGEST_CONSTANT,
            output_size_limit=_LARGEST_CONSTANT,
            should_fold=_Folding(),
        ).modified
    except (RuntimeError, ValueError, IndexError, TypeError, ArithmeticError) as error:
        raise BadDataError(
            f"The constants of the graph cannot be computed: {error}. Export it again."
        ) from None
    # The folder writes Constants with attributes of opset 12 whatever the opset is; initializers avoid that.
    free_constants(model)
    for value in ir.convenience.create_value_mapping(model.graph).values():
        value.metadata_props.pop(optimizer.FOLDED_FROM_KEY, None)
    return folded


class _Folding:
    """Decides which nodes are computed, and counts the elements of their results."""

    def __init__(self) -> None:
        self._left = _MOST_CONSTANTS

    def __call__(self, node: ir.Node) -> bool | None:
        if node.domain or node.op_type in _KEPT:
            return False
        shapes = [value.shape for value in node.outputs]
        sizes = [math.prod(shape.numpy()) for shape in shapes if shape is not None and shape.is_static()]
        folded = len(sizes) == len(shapes) and sum(sizes) <= min(_LARGEST_CONSTANT, self._left)
        if folded and all(value is not None and value.const_value is not None for value in node.inputs):
            self._left -= sum(sizes)
        return folded


def _weightless(tensor: ir.TensorProtocol, name: str) -> ir.TensorProtoTensor:
    return ir.TensorProtoTensor(
        onnx.TensorProto(name=name, data_type=int(tensor.dtype), dims=tensor.shape.numpy())
    )


def _contradiction(message: str) -> str:
    found = _FIRST_ERROR.search(message)
    if found is None:
        return f"The shapes of the graph contradict each other: {' '.join(message.split())}."
    why = found["why"].strip().rstrip(".")
    return f"The shapes at the node {found['node']} ({found['op']}) contradict each other: {why}."
