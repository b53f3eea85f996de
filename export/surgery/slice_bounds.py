"""The bounds of a Slice, if they are constant."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from export.surgery.values import integers

__all__ = ["Cut", "cuts_of", "is_slice"]


@dataclass(frozen=True)
class Cut:
    """The part of one axis that a Slice keeps."""

    start: int
    end: int
    step: int


def is_slice(node: ir.Node) -> bool:
    """Return whether `node` is a Slice whose bounds are inputs, as from opset 10 on."""
    return not node.domain and node.op_type == "Slice" and len(node.inputs) >= 3


def cuts_of(node: ir.Node, rank: int) -> dict[int, Cut] | None:
    """Return the cut of each axis that a Slice with constant bounds cuts, by non-negative axis; else None."""
    if not is_slice(node):
        return None
    starts, ends = integers(node.inputs[1]), integers(node.inputs[2])
    given = [None if len(node.inputs) <= index else node.inputs[index] for index in (3, 4)]
    if starts is None or ends is None:
        return None
    axes = list(range(len(starts))) if given[0] is None else integers(given[0])
    steps = [1] * len(starts) if given[1] is None else integers(given[1])
    if axes is None or steps is None:
        return None
    bounds = zip(axes, starts, ends, steps, strict=True)
    return {axis % rank: Cut(start, end, step) for axis, start, end, step in bounds}
