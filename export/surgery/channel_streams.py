"""The tensors of a residual network whose channels are moved by temporal shifts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.surgery.time_shift import TimeShift, find_time_shifts
from export.surgery.values import constant, only_use, static_dims

__all__ = ["ShiftedConv", "find_shifted_convs", "is_channelwise", "is_dense", "stream_of"]

# Operators whose output channel c depends on channel c of their inputs only.
_CHANNELWISE = ("Add", "AveragePool", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Relu")
# Up to this size a product with the matrix takes no longer than reading and writing the data that it moves.
_LARGEST_MATRIX = 64


@dataclass(frozen=True)
class ShiftedConv:
    """A convolution that alone reads the output of a shift of channels [0, at) of its source, of shape `dims`."""

    shift: TimeShift
    conv: ir.Node
    dims: tuple[int, ...]
    at: int

    def matrix(self) -> npt.NDArray[np.float32]:
        """Return the matrix of zeros and ones that shifts a clip: [T p, T p] for T segments and p pieces.

        Its rows and columns are the channels [0, at) of each frame, in pieces of equal size; a row has a one at the
        piece that it comes from, and none if that is outside the clip, so that the result is zero.
        """
        unit = _unit(self.shift)
        steps = [
            part.step for part in self.shift.parts if part.step for _ in range(part.start, part.end, unit)
        ]
        count = self.shift.segments
        blocks = np.zeros((count, len(steps), count, len(steps)), dtype=np.float32)
        for piece, step in enumerate(steps):
            blocks[:, piece, :, piece] = np.eye(count, k=step)
        return blocks.reshape(count * len(steps), -1)


def find_shifted_convs(model: ir.Model, known: Mapping[str, ir.Value]) -> list[ShiftedConv]:
    """Return the convolutions after the temporal shifts of `model`, in the graph's order.

    The channels that move must come first, without a gap, in at most 64 pieces per clip; the convolution must be the
    shift's only user, with one group and constant weights.
    """
    found = (_shifted_conv(shift, known) for shift in find_time_shifts(model, known))
    return [shifted for shifted in found if shifted is not None]


def _shifted_conv(shift: TimeShift, known: Mapping[str, ir.Value]) -> ShiftedConv | None:
    conv, dims = only_use(shift.output), static_dims(known[str(shift.source.name)])
    *moved, rest = shift.parts
    ends = [0, *(part.end for part in shift.parts)]
    contiguous = all(part.start == end for part, end in zip(shift.parts, ends, strict=False))
    if conv is None or not is_dense(conv) or dims is None or not moved or rest.step or not contiguous:
        return None
    pieces = rest.start // _unit(shift)
    if (
        not all(part.step for part in moved)
        or rest.end != dims[1]
        or pieces * shift.segments > _LARGEST_MATRIX
    ):
        return None
    return ShiftedConv(shift, conv, dims, rest.start)


def _unit(shift: TimeShift) -> int:
    """Return the greatest common divisor of the numbers of channels that move."""
    return math.gcd(*(part.end - part.start for part in shift.parts if part.step))


def is_dense(node: ir.Node) -> bool:
    """Return whether `node` is a convolution with constant weights and a single group."""
    group = node.attributes.get("group")
    arrays = [constant(value) for value in node.inputs[1:]]
    one_group = group is None or group.as_int() == 1
    return not node.domain and node.op_type == "Conv" and one_group and not any(a is None for a in arrays)


def is_channelwise(node: ir.Node) -> bool:
    """Return whether `node` can be applied to a part of the channels."""
    return not node.domain and node.op_type in _CHANNELWISE and len(node.outputs) == 1


def stream_of(source: ir.Value) -> tuple[ir.Value, ...]:
    """Return `source` and all values that share its channels: sums with it, activations and poolings of it.

    Empty if one of them cannot be split, because it does not come from a convolution with constant weights.
    """
    found: dict[ir.Value, None] = {}
    waiting = [source]
    while waiting:
        value = waiting.pop()
        if value in found:
            continue
        node = value.producer()
        if node is None or value.is_graph_output() or not (is_channelwise(node) or is_dense(node)):
            return ()
        found[value] = None
        if is_channelwise(node):
            waiting += _values(node.inputs)
        waiting += [user.outputs[0] for user in value.consumers() if is_channelwise(user)]
    return tuple(found)


def _values(inputs: Iterable[ir.Value | None]) -> list[ir.Value]:
    return [value for value in inputs if value is not None]
