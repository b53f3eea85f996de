"""The pass that keeps the channels which are shifted in time in a separate tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.surgery.channel_streams import (
    ShiftedConv,
    find_shifted_convs,
    is_channelwise,
    is_dense,
    stream_of,
)
from export.surgery.pass_types import Options
from export.surgery.shapes import record_shapes, resolved
from export.surgery.values import add_constant, constant, drop_unused, insert_node

__all__ = ["split_shift"]

Array = npt.NDArray[Any]
Halves = tuple[ir.Value, ir.Value]

# The block of channels in ONNX Runtime's blocked layout with AVX-512, which is the largest of all processors.
_BLOCK = 16
# With halves of a single block the surrounding convolutions read and write more than the split saves.
_SMALLEST = 2 * _BLOCK


def split_shift(model: ir.Model, options: Options) -> bool:
    """Keep the channels that a temporal shift moves, a quarter of each tensor in TSM, in a separate tensor.

    Before and after, for a shift of C / 4 channels before a convolution with the weights W::

        x [frames, C, H, W]              S [frames, C/4, H, W]      R [frames, 3C/4, H, W]
          |                                |                          |
        Reshape to clips                 MatMul(shift)                |
          |                                |                          |
        3 Slices, 2 Pads, Concat         Conv(W[:, :C/4])           Conv(W[:, C/4:], bias)
          |                                |                          |
        Reshape to frames                  +----------- Add ----------+
          |                                              |
        Conv(W, bias)                                    y
          |
          y

    The residual sum that also reads x becomes one sum with S and one with R.

    ONNX Runtime computes convolutions in a layout of blocked channels and leaves it for every Slice, Pad and Concat,
    for which all channels are converted to the plain layout and back. Rewritten, for shifts before a convolution:

    1. The residual stream, all tensors that share channels with a shift's source through sums, activations and
       poolings, is split into the shifted channels and the rest. Convolutions that write it are divided by their
       filters; convolutions that read it become the sum of two, each over one half, which the runtime adds within the
       second one. After the global average pooling the halves, one number per channel, are joined.
    2. The shift itself is a product of a matrix of zeros and ones, [2 T, 2 T] for T segments and two parts, with
       the shifted half of each clip: both directions and the zeros in one operator that uses all cores, in the
       order of frames of the input.
    3. If the stream cannot be split, or a half would hold less than 32 channels or not a multiple of 16, a 1x1
       convolution reads the complete stream with zero weights for the shifted channels; only these are picked, by a
       convolution with ones where they fill blocks, and moved. This applies to the 64 channels after TSM's stem.

    Milliseconds of all 16 shifts of TSM-R50 outside its convolutions, 1x48x3x256x256, two threads of an AVX-512
    processor, runs of 1.4 s: a Pad for each part and Concat 132; a Pad and a convolution for each part 108; Gather of
    rows and ScatterND of the zeros 114; Gather and the product with a mask 91; Gather from a stream that includes
    channels of zeros 79, and 40 more in the convolutions; the product with a matrix 72. Splitting the stem's 64
    channels into 16 and 48 costs 10 more in the stem and the first shortcut, which then write their outputs twice.

    Mathematically equal; the sum of two convolutions rounds differently from one. Where an activation is infinite, the
    product with zero is NaN, as is mmaction2's `x - x`. Not rewritten: a shift whose parts have no common size of
    which a clip has at most 64 pieces (PP-TSM's at 6 or 25 segments), one before anything but a convolution.
    """
    shifts = find_shifted_convs(model, resolved(model))
    split = _split_values(shifts)
    chosen = [item for item in shifts if item.shift.source in split or _is_pointwise(item.conv)]
    if not chosen:
        return False
    splitter = _Splitter(model.graph, split, chosen)
    for node in tuple(model.graph):
        splitter.rewrite(node)
    drop_unused(model)
    record_shapes(model)
    return True


def _split_values(shifts: Sequence[ShiftedConv]) -> dict[ir.Value, int]:
    """Return the values to split, each with the number of channels that are shifted."""
    split: dict[ir.Value, int] = {}
    for item in shifts:
        stream = () if item.shift.source in split else stream_of(item.shift.source)
        places = {other.at for other in shifts if other.shift.source in stream}
        sizes = (item.at, item.dims[1] - item.at)
        if len(places) == 1 and min(sizes) >= _SMALLEST and not any(size % _BLOCK for size in sizes):
            split.update(dict.fromkeys(stream, item.at))
    return split


def _is_pointwise(conv: ir.Node) -> bool:
    weights = constant(conv.inputs[1])
    return weights is not None and set(weights.shape[2:]) == {1}


class _Splitter:
    """Rewrites nodes in the graph's order and keeps the halves of the values that were split."""

    def __init__(self, graph: ir.Graph, split: Mapping[ir.Value, int], shifts: Sequence[ShiftedConv]) -> None:
        self._graph = graph
        self._split = split
        self._shifts = {item.conv: item for item in shifts}
        self._shifting = {value for item in shifts for value in item.shift.inner_values()}
        self._shifting |= {item.shift.output for item in shifts}
        self._halves: dict[ir.Value, Halves] = {}

    def rewrite(self, node: ir.Node) -> None:
        """Let `node` use halves if it reads or writes a value that is split."""
        output = node.outputs[0]
        if output in self._shifting:
            return
        if output in self._split:
            self._halves[output] = self._in_halves(node, self._split[output])
        elif node in self._shifts or (is_dense(node) and node.inputs[0] in self._halves):
            name = str(output.name)
            output.name = f"{name}_unsplit"
            output.replace_all_uses_with(self._convolved(node, slice(None), name=name))
        else:
            for index, value in enumerate(node.inputs):
                if value is not None and value in self._halves:
                    joined = self._insert(node, "Concat", self._halves[value], f"{value.name}_joined", axis=1)
                    node.replace_input_with(index, joined)

    def _in_halves(self, node: ir.Node, at: int) -> Halves:
        first, second = f"{node.outputs[0].name}_shifted", f"{node.outputs[0].name}_rest"
        if not is_channelwise(node):
            return (
                self._convolved(node, slice(at), name=first),
                self._convolved(node, slice(at, None), name=second),
            )
        inputs = [self._halves[value] for value in node.inputs if value is not None]
        return (
            self._copied(node, [half[0] for half in inputs], name=first),
            self._copied(node, [half[1] for half in inputs], name=second),
        )

    def _convolved(self, conv: ir.Node, filters: slice, *, name: str) -> ir.Value:
        """Return the output of these `filters` of `conv` for its input, split or not."""
        item = self._shifts.get(conv)
        source = conv.inputs[0] if item is None else item.shift.source
        weights, *bias = [
            array[filters] for value in conv.inputs[1:] if (array := constant(value)) is not None
        ]
        if item is not None and source not in self._halves:
            shifted, rest = self._cut(conv, item, weights.dtype), item.shift.source
            of_shifted, of_rest = weights[:, : item.at], weights.copy()
            of_rest[:, : item.at] = 0
        elif source is not None and source in self._halves:
            shifted, rest = self._halves[source]
            of_shifted, of_rest = np.split(weights, [self._split[source]], axis=1)
        else:
            return self._conv(conv, source, [weights, *bias], name=name)
        if item is not None:
            shifted = self._moved(conv, item, shifted, weights.dtype)
        addends = [
            self._conv(conv, shifted, [of_shifted], name=f"{name}_of_shifted"),
            self._conv(conv, rest, [of_rest, *bias], name=f"{name}_of_rest"),
        ]
        return self._insert(conv, "Add", addends, name)

    def _moved(self, before: ir.Node, item: ShiftedConv, shifted: ir.Value, dtype: np.dtype[Any]) -> ir.Value:
        """Return the channels `shifted` of all frames, of this dtype, each part moved by its step."""
        frames, _, height, width = item.dims
        matrix = item.matrix().astype(dtype)
        name = f"{item.shift.output.name}_moved"
        clips = frames // item.shift.segments
        dims = (clips, len(matrix), frames * item.at * height * width // (clips * len(matrix)))
        rows = self._insert(
            before, "Reshape", [shifted, self._numbers(f"{name}_rows_shape", dims)], f"{name}_rows"
        )
        inputs = [add_constant(self._graph, f"{name}_matrix", matrix), rows]
        moved = self._insert(before, "MatMul", inputs, f"{name}_in_rows")
        shape = self._numbers(f"{name}_shape", (frames, item.at, height, width))
        return self._insert(before, "Reshape", [moved, shape], name)

    def _cut(self, before: ir.Node, item: ShiftedConv, dtype: np.dtype[Any]) -> ir.Value:
        name = f"{item.shift.output.name}_cut"
        if item.at % _BLOCK:
            bounds = {"starts": 0, "ends": item.at, "axes": 1, "steps": 1}
            numbers = [self._numbers(f"{name}_{key}", (number,)) for key, number in bounds.items()]
            return self._insert(before, "Slice", [item.shift.source, *numbers], name)
        # A convolution with ones picks channels within the blocked layout; a Slice would convert all channels.
        picked = np.eye(item.at, item.dims[1]).astype(dtype)[:, :, None, None]
        weights = add_constant(self._graph, f"{name}_weight", picked)
        return self._insert(before, "Conv", [item.shift.source, weights], name, kernel_shape=[1, 1])

    def _conv(self, like: ir.Node, data: ir.Value | None, arrays: Sequence[Array], *, name: str) -> ir.Value:
        constants = [
            add_constant(self._graph, f"{name}_{kind}", np.ascontiguousarray(array))
            for kind, array in zip(("weight", "bias"), arrays, strict=False)
        ]
        return self._copied(like, [data, *constants], name=name)

    def _copied(self, node: ir.Node, inputs: Sequence[ir.Value | None], *, name: str) -> ir.Value:
        attributes = {key: attribute.value for key, attribute in node.attributes.items()}
        return self._insert(node, node.op_type, inputs, name, **attributes)

    def _numbers(self, name: str, numbers: Sequence[int]) -> ir.Value:
        return add_constant(self._graph, name, np.array(numbers, dtype=np.int64))

    def _insert(
        self, before: ir.Node, op_type: str, inputs: Sequence[ir.Value | None], name: str, **attributes: Any
    ) -> ir.Value:
        return insert_node(self._graph, before, op_type, inputs, name=name, **attributes)
