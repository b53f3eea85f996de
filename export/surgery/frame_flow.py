"""Data flow of the frames through a graph: which values keep them apart, and where they are averaged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from export.surgery.slice_bounds import cuts_of
from export.surgery.time_shift import TimeShift
from export.surgery.values import data_input, integers, only_use, opset, reduced_axes, static_dims

__all__ = ["FrameMean", "frame_means"]

Dims = tuple[int, ...]

# Operators of one tensor each of whose elements depends on the element at the same place only.
_ELEMENTWISE = (
    *("Cast", "Clip", "Dropout", "Elu", "Erf", "Exp", "HardSigmoid", "Identity"),
    *("LeakyRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Sqrt", "Tanh"),
)
_BROADCAST = ("Add", "Div", "Max", "Min", "Mul", "PRelu", "Sub", "Sum")
# Operators that treat the entries of dimension 0 independently.
_PER_SAMPLE = (
    *("AveragePool", "BatchNormalization", "Conv", "GlobalAveragePool", "GlobalMaxPool"),
    *("InstanceNormalization", "MaxPool"),
)
# From this opset on Softmax is computed along its axis only; before, over all dimensions from that axis on.
_SOFTMAX_ALONG_AXIS = 13


@dataclass(frozen=True)
class FrameMean:
    """A Reshape to [rows, frames of a row, features] and the mean over dimension 1, its only user."""

    reshape: ir.Node
    mean: ir.Node
    dims: Dims


def frame_means(
    model: ir.Model, shifts: Sequence[TimeShift], known: Mapping[str, ir.Value]
) -> list[FrameMean] | None:
    """Return the means over frames of `model`, None if frames are mixed anywhere else but in `shifts`.

    Dimension 0 counts frames; at the input dimensions 0 and 1 together may. Every operator in between must be known to
    compute each frame from the same frame only; an unknown one ends the search.
    """
    flow = _Flow(shifts, known, opset(model))
    if not flow.enter(data_input(model)):
        return None
    inside = {value for shift in shifts for value in shift.inner_values()}
    for node in model.graph:
        if node.outputs[0] not in inside and flow.reaches(node) and not flow.passes(node):
            return None
    if any(value in flow.lead for value in model.graph.outputs):
        return None
    return flow.means


class _Flow:
    """The values that hold frames, each with the number of leading dimensions that count them."""

    def __init__(
        self, shifts: Sequence[TimeShift], known: Mapping[str, ir.Value], opset_version: int
    ) -> None:
        self.lead: dict[ir.Value, int] = {}
        self.means: list[FrameMean] = []
        self._known = known
        self._opset = opset_version
        self._shifted = {shift.output: shift.source for shift in shifts}
        self._frames = {(self._dims(shift.source) or (0,))[0] for shift in shifts}

    def enter(self, entry: ir.Value) -> bool:
        """Return whether the leading dimensions of the input `entry` count the frames that are shifted."""
        dims = self._dims(entry) or ()
        for lead in (1, 2):
            if len(self._frames) == 1 and len(dims) > lead and {math.prod(dims[:lead])} == self._frames:
                self.lead[entry] = lead
                return True
        return False

    def reaches(self, node: ir.Node) -> bool:
        """Return whether an input of `node` holds frames."""
        ends_shift = node.outputs[0] in self._shifted
        return ends_shift or any(value in self.lead for value in node.inputs if value is not None)

    def passes(self, node: ir.Node) -> bool:
        """Return whether `node` keeps frames apart, and record that its output holds frames or their means."""
        output = node.outputs[0]
        if output in self._shifted:
            self.lead[output] = 1
            return self.lead.get(self._shifted[output]) == 1
        if node.domain or any(extra.uses() for extra in node.outputs[1:]):
            return False
        if node.op_type == "Reshape":
            return self._reshaped(node)
        lead = self._kept(node)
        if lead is not None:
            self.lead[output] = lead
        return lead is not None

    def _kept(self, node: ir.Node) -> int | None:
        """Return how many leading dimensions of the output count frames, None if frames may have been mixed."""
        first = node.inputs[0]
        lead = None if first is None else self.lead.get(first)
        dims = None if first is None else self._dims(first)
        if node.op_type in _BROADCAST:
            return self._broadcast(node)
        if (
            lead is None
            or dims is None
            or any(value in self.lead for value in node.inputs[1:] if value is not None)
        ):
            return self._joined(node)
        if node.op_type in _ELEMENTWISE or (node.op_type in _PER_SAMPLE and lead == 1):
            return lead
        return lead if self._untouched(node, lead, dims) else None

    def _untouched(self, node: ir.Node, lead: int, dims: Dims) -> bool:
        """Return whether `node`, with one input that holds frames, computes along the other dimensions only."""
        if node.op_type in ("Gemm", "MatMul"):
            return lead == 1 and len(dims) == 2 and not _attribute(node, "transA", 0)
        if node.op_type == "Flatten":
            return _attribute(node, "axis", 1) == lead == 1
        touched = self._touched_axes(node, dims)
        return touched is not None and all(axis >= lead for axis in touched)

    def _touched_axes(self, node: ir.Node, dims: Dims) -> list[int] | None:
        """Return the axes along which `node` computes, None if unknown."""
        axes: list[int] | None = None
        if node.op_type == "Softmax":
            axes = [_attribute(node, "axis", 1 if self._opset < _SOFTMAX_ALONG_AXIS else -1)]
        elif node.op_type in ("ReduceMean", "Squeeze"):
            axes = reduced_axes(node) or None
        elif node.op_type == "Slice":
            cuts = cuts_of(node, len(dims))
            axes = None if cuts is None else list(cuts)
        elif node.op_type == "Pad" and len(node.inputs) in (2, 3):
            pads = integers(node.inputs[1])
            axes = None if pads is None else [axis % len(dims) for axis, pad in enumerate(pads) if pad]
        return None if axes is None else [axis % len(dims) for axis in axes]

    def _broadcast(self, node: ir.Node) -> int | None:
        leads = {self.lead[value] for value in node.inputs if value is not None and value in self.lead}
        dims = self._dims(node.outputs[0])
        if len(leads) != 1 or dims is None:
            return None
        (lead,) = leads
        for value in node.inputs:
            found = None if value is None else self._dims(value)
            if found is None:
                return None
            aligned = (1,) * (len(dims) - len(found)) + found
            expected = dims[:lead] if value in self.lead else (1,) * lead
            if aligned[:lead] != expected:
                return None
        return lead

    def _joined(self, node: ir.Node) -> int | None:
        dims = self._dims(node.outputs[0])
        leads = {None if value is None else self.lead.get(value) for value in node.inputs}
        if node.op_type != "Concat" or len(leads) != 1 or dims is None:
            return None
        (lead,) = leads
        return lead if lead is not None and node.attributes["axis"].as_int() % len(dims) >= lead else None

    def _reshaped(self, node: ir.Node) -> bool:
        source, output = node.inputs[0], node.outputs[0]
        dims = self._dims(output)
        if source is None or source not in self.lead or dims is None or len(dims) < 2:
            return False
        if {dims[0]} == self._frames:
            self.lead[output] = 1
            return True
        mean = only_use(output)
        averaged = (
            mean is not None and mean.op_type == "ReduceMean" and reduced_axes(mean) in ([1], [1 - len(dims)])
        )
        if mean is not None and averaged and len(dims) == 3 and {dims[0] * dims[1]} == self._frames:
            self.means.append(FrameMean(node, mean, dims))
            return True
        return False

    def _dims(self, value: ir.Value) -> Dims | None:
        found = self._known.get(str(value.name))
        return static_dims(value if found is None else found)


def _attribute(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()
