"""The temporal shift of TSM and of PP-TSM, in the form that exports to the fewest ONNX nodes.

A traced graph has 2 Reshape, 5 Slice, 2 Pad and 1 Concat for a shift, in opset 11 and later, and works for any number
of clips. That is why Pad adds the zeros: a zero block for Concat would need the number of clips in its shape, either as
a constant or computed by Shape, Gather and Expand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["paddle_temporal_shift", "temporal_shift"]


def temporal_shift(x: Tensor, *, num_segments: int, shift_div: int) -> Tensor:
    """Return the frames `x: [clips * num_segments, C, H, W]` with two parts of their channels moved in time.

    Within each clip and with fold = C // shift_div, frame t holds channels [0, fold) of frame t + 1 (zeros in
    the last frame), channels [fold, 2 fold) of frame t - 1 (zeros in the first) and its own rest, as
    `TemporalShift.shift` of mmaction2 does. The zeros are constants: mmaction2 computes them as `x - x`, which
    is NaN where an activation is infinite, and needs a subtraction at run time.
    """
    fold = int(x.shape[1]) // shift_div
    clips = _clips(x, num_segments)
    parts = [_from_next(clips, 0, fold), _from_previous(clips, fold, 2 * fold), clips[:, :, 2 * fold :]]
    return _frames(parts, x)


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
    clips = _clips(x, num_segments)
    parts = [_from_previous(clips, 0, first), _from_next(clips, first, second), clips[:, :, second:]]
    return _frames(parts, x)


def _clips(x: Tensor, num_segments: int) -> Tensor:
    # int() makes the sizes constants of a traced graph; only the number of clips stays symbolic (-1).
    channels, height, width = (int(size) for size in x.shape[1:])
    return x.reshape(-1, num_segments, channels, height * width)


def _frames(parts: list[Tensor], like: Tensor) -> Tensor:
    return torch.cat(parts, dim=2).reshape(-1, *(int(size) for size in like.shape[1:]))


def _from_next(clips: Tensor, start: int, end: int) -> Tensor:
    return _pad_time(clips[:, 1:, start:end], before=0, after=1)


def _from_previous(clips: Tensor, start: int, end: int) -> Tensor:
    return _pad_time(clips[:, :-1, start:end], before=1, after=0)


def _pad_time(x: Tensor, *, before: int, after: int) -> Tensor:
    return _PadTime.apply(x, before, after)  # type: ignore[no-any-return, no-untyped-call]


class _PadTime(torch.autograd.Function):
    """Zero padding of dimension 1 of four, which exports to one ONNX Pad.

    For `functional.pad` alone the exporter writes a dozen nodes that compute the constant pad vector.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, before: int, after: int) -> Tensor:
        context.kept = slice(before, before + x.shape[1])
        return functional.pad(x, (0, 0, 0, 0, before, after))

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Any:
        return gradients[0][:, context.kept], None, None

    @staticmethod
    def symbolic(graph: Any, x: Any, before: int, after: int) -> Any:
        pads = graph.op("Constant", value_t=torch.tensor([0, before, 0, 0, 0, after, 0, 0]))
        return graph.op("Pad", x, pads, mode_s="constant")
