"""The temporal shift of TSM and of PP-TSM: two copies where torch computes it, few nodes where ONNX does.

In torch the shifted frames are written to a buffer with the memory layout of the input, so that convolutions after it
stay channels-last where those before it are. A traced graph has 2 Reshape, 5 Slice, 2 Pad and 1 Concat for a shift, in
opset 11 and later, and works for any number of clips. That is why Pad adds the zeros: a zero block for Concat would
need the number of clips in its shape, either as a constant or computed by Shape, Gather and Expand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["paddle_temporal_shift", "temporal_shift"]

_END = np.iinfo(np.int64).max


def temporal_shift(x: Tensor, *, num_segments: int, shift_div: int) -> Tensor:
    """Return the frames `x: [clips * num_segments, C, H, W]` with two parts of their channels moved in time.

    Within each clip and with fold = C // shift_div, frame t holds channels [0, fold) of frame t + 1 (zeros in
    the last frame), channels [fold, 2 fold) of frame t - 1 (zeros in the first) and its own rest, as
    `TemporalShift.shift` of mmaction2 does. The zeros are constants: mmaction2 computes them as `x - x`, which
    is NaN where an activation is infinite, and needs a subtraction at run time.
    """
    fold = int(x.shape[1]) // shift_div
    return _Shift.apply(x, _Moves(num_segments, fold, 2 * fold, -1, _frame(x)))  # type: ignore[no-any-return, no-untyped-call]


def paddle_temporal_shift(x: Tensor, *, num_segments: int) -> Tensor:
    """Return the frames `x: [clips * num_segments, C, H, W]` shifted as PP-TSM was trained.

    The order is the opposite of `temporal_shift`: within each clip frame t holds channels [0, first) of
    frame t - 1 (zeros in the first frame), channels [first, second) of frame t + 1 (zeros in the last) and
    its own rest. With r = 1 / num_segments in float32, first = int(C r) and second = int(2 C r), so that the
    two parts differ by one channel at some segment counts (6, 25), as in Paddle's `temporal_shift` kernel
    (`paddle/phi/kernels/cpu/temporal_shift_kernel.cc`) and `resnet_tweaks_tsm.py` of PaddleVideo.
    """
    channels, ratio = np.float32(int(x.shape[1])), np.float32(1 / num_segments)
    first, second = int(channels * ratio), int(2 * channels * ratio)
    return _Shift.apply(x, _Moves(num_segments, first, second, 1, _frame(x)))  # type: ignore[no-any-return, no-untyped-call]


@dataclass(frozen=True)
class _Moves:
    """Within clips, channels [0, first) move by `step` frames (1 or -1), [first, second) by -step, the rest stay.

    `frame` is the size of a frame [C, H, W]: a graph whose number of clips is free does not hold it.
    """

    num_segments: int
    first: int
    second: int
    step: int
    frame: tuple[int, ...]


def _frame(x: Tensor) -> tuple[int, ...]:
    return tuple(int(size) for size in x.shape[1:])


class _Shift(torch.autograd.Function):
    """The moves of frames `[clips * num_segments, C, H, W]`; the gradient moves back."""

    @staticmethod
    def forward(context: Any, x: Tensor, moves: _Moves) -> Tensor:
        context.back = replace(moves, step=-moves.step)
        return _shifted(x, moves)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Any:
        return _shifted(gradients[0], context.back), None

    @staticmethod
    def symbolic(graph: Any, x: Any, moves: _Moves) -> Any:
        def constant(*values: int) -> Any:
            return graph.op("Constant", value_t=torch.tensor(values))

        def part(of: Any, axis: int, start: int, end: int) -> Any:
            axes = constant(axis)
            return graph.op("Slice", of, constant(start), constant(end), axes, constant(1))

        def moved(start: int, end: int, step: int) -> Any:
            before, after = max(step, 0), max(-step, 0)
            kept = part(part(clips, 1, after, -before or _END), 2, start, end)
            return graph.op("Pad", kept, constant(0, before, 0, 0, 0, after, 0, 0), mode_s="constant")

        # The sizes become constants; only the number of clips is free (-1).
        channels, height, width = moves.frame
        clips = graph.op("Reshape", x, constant(-1, moves.num_segments, channels, height * width))
        first, second = moved(0, moves.first, moves.step), moved(moves.first, moves.second, -moves.step)
        joined = graph.op("Concat", first, second, part(clips, 2, moves.second, _END), axis_i=2)
        return graph.op("Reshape", joined, constant(-1, channels, height, width))


def _shifted(x: Tensor, moves: _Moves) -> Tensor:
    result = torch.empty_like(x)
    source, target = (frames.view(-1, moves.num_segments, *x.shape[1:]) for frames in (x, result))
    for channels, step in (
        (slice(0, moves.first), moves.step),
        (slice(moves.first, moves.second), -moves.step),
    ):
        if step > 0:
            target[:, 1:, channels] = source[:, :-1, channels]
            target[:, 0, channels] = 0
        else:
            target[:, :-1, channels] = source[:, 1:, channels]
            target[:, -1, channels] = 0
    target[:, :, moves.second :] = source[:, :, moves.second :]
    return result
