"""The temporal shift, in the form that exports to the fewest ONNX nodes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["temporal_shift"]


def temporal_shift(x: Tensor, *, num_segments: int, shift_div: int) -> Tensor:
    """Return the frames `x: [clips * num_segments, C, H, W]` with two parts of their channels moved in time.

    Within each clip and with fold = C // shift_div, frame t holds channels [0, fold) of frame t + 1 (zeros in
    the last frame), channels [fold, 2 fold) of frame t - 1 (zeros in the first) and its own rest, as
    `TemporalShift.shift` of mmaction2 does. The zeros are constants: mmaction2 computes them as `x - x`, which
    is NaN where an activation is infinite, and costs a subtraction at run time.

    A traced graph holds 2 Reshape, 5 Slice, 2 Pad and 1 Concat, in opset 11 and later, and serves any number
    of clips. That is why the zeros come from Pad: a block of zeros to be concatenated would need the number
    of clips in its shape, either written into the graph or computed there by Shape, Gather and Expand.
    """
    # int() writes the sizes into a traced graph as constants; only the number of clips stays open (-1).
    channels, height, width = (int(size) for size in x.shape[1:])
    fold = channels // shift_div
    clips = x.reshape(-1, num_segments, channels, height * width)
    from_next = _pad_time(clips[:, 1:, :fold], before=0, after=1)
    from_previous = _pad_time(clips[:, :-1, fold : 2 * fold], before=1, after=0)
    shifted = torch.cat([from_next, from_previous, clips[:, :, 2 * fold :]], dim=2)
    return shifted.reshape(-1, channels, height, width)


def _pad_time(x: Tensor, *, before: int, after: int) -> Tensor:
    return _PadTime.apply(x, before, after)  # type: ignore[no-any-return, no-untyped-call]


class _PadTime(torch.autograd.Function):
    """Zeros before and after dimension 1 of four, which becomes one ONNX Pad.

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
