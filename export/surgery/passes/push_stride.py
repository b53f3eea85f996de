"""The pass that moves the stride of a pooling into the preceding convolution."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from export.surgery.pass_types import Options
from export.surgery.shapes import record_shapes
from export.surgery.values import drop_unused, only_use

__all__ = ["push_stride"]

_POOLS = ("AveragePool", "MaxPool")
_ELEMENTWISE = (
    "BatchNormalization",
    "Clip",
    "Elu",
    "Identity",
    "LeakyRelu",
    "Relu",
    "Selu",
    "Sigmoid",
    "Tanh",
)


def push_stride(model: ir.Model, options: Options) -> bool:
    """Move the stride of poolings with window 1 into the preceding convolution, which then computes no dropped outputs.

    Rewritten: MaxPool or AveragePool whose window along an axis is 1, without pads, with stride s, after a Conv and
    any number of elementwise operators, none of them with further users. Along that axis the stride
    of the Conv is multiplied by s and that of the pooling is 1. With L = size + pads - window of the Conv and its
    stride c, floor(floor(L / c) / s) = floor(L / (c s)), so that both give equally many outputs, and output i is
    the same window of the input: bit-identical. A pooling that is left without effect is removed.

    Example: of the 16 frames that the stem of I3D computes from 32, pool1 keeps 8.

    Not rewritten: automatic pads, ceil_mode, dilated poolings, MaxPool with the output of indices.
    """
    modified = False
    for pool in [node for node in model.graph if _is_plain_pool(node)]:
        conv = _convolution_before(pool)
        if conv is not None:
            modified |= _move_strides(conv, pool)
    if modified:
        drop_unused(model)
        record_shapes(model)
    return modified


def _is_plain_pool(node: ir.Node) -> bool:
    if node.domain or node.op_type not in _POOLS or len(node.outputs) > 1:
        return False
    dilations = _numbers(node, "dilations", ())
    ceiled = node.attributes.get("ceil_mode")
    return _explicit(node) and set(dilations) <= {1} and (ceiled is None or not ceiled.as_int())


def _convolution_before(pool: ir.Node) -> ir.Node | None:
    value = pool.inputs[0]
    while value is not None and only_use(value) is not None:
        node = value.producer()
        if node is None or node.domain or len(node.outputs) > 1:
            return None
        if node.op_type == "Conv":
            return node if _explicit(node) else None
        if node.op_type not in _ELEMENTWISE:
            return None
        value = node.inputs[0]
    return None


def _explicit(node: ir.Node) -> bool:
    mode = node.attributes.get("auto_pad")
    return mode is None or mode.as_string() == "NOTSET"


def _move_strides(conv: ir.Node, pool: ir.Node) -> bool:
    kernel = pool.attributes["kernel_shape"].as_ints()
    rank = len(kernel)
    strides, pads = _numbers(pool, "strides", (1,) * rank), _numbers(pool, "pads", (0,) * 2 * rank)
    free = [kernel[axis] == 1 and not pads[axis] and not pads[axis + rank] for axis in range(rank)]
    moved = [stride if move else 1 for stride, move in zip(strides, free, strict=True)]
    if set(moved) == {1}:
        return False
    own = _numbers(conv, "strides", (1,) * rank)
    _write_strides(conv, [first * second for first, second in zip(own, moved, strict=True)])
    left = [stride // step for stride, step in zip(strides, moved, strict=True)]
    _write_strides(pool, left)
    if all(free) and set(left) == {1} and pool.inputs[0] is not None:
        pool.outputs[0].replace_all_uses_with(pool.inputs[0], replace_graph_outputs=True)
    return True


def _write_strides(node: ir.Node, strides: list[int]) -> None:
    node.attributes["strides"] = ir.AttrInt64s("strides", strides)


def _numbers(node: ir.Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    attributes: Mapping[str, ir.Attr] = node.attributes
    return tuple(attributes[name].as_ints()) if name in attributes else default
