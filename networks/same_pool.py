"""Max pooling with TensorFlow's SAME padding, which exports to one ONNX node with explicit pads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["max_pool_same_upper", "same_upper_pads"]


def max_pool_same_upper(x: Tensor, *, kernel: int, stride: int) -> Tensor:
    """Return the max pooling of `x: [N, C, H, W]`, of size ceil(H / stride) by ceil(W / stride).

    Padding is never the maximum.
    """
    height, width = (same_upper_pads(int(size), kernel=kernel, stride=stride) for size in x.shape[2:])
    return _PooledSame.apply(x, kernel, stride, (*width, *height))  # type: ignore[no-any-return, no-untyped-call]


def same_upper_pads(size: int, *, kernel: int, stride: int) -> tuple[int, int]:
    """Return the padding (before, after) of an axis of `size`; an odd total has its extra element after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class _PooledSame(torch.autograd.Function):
    """Max pooling with pads (left, right, top, bottom); torch's own pooling accepts only symmetric ones.

    A separate pad would export as a dozen nodes that compute the pad vector, and copy the largest feature map at run
    time.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, kernel: int, stride: int, pads: tuple[int, int, int, int]) -> Tensor:
        context.save_for_backward(x)
        context.settings = kernel, stride, pads
        return _pool(x, kernel, stride, pads)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Any:
        with torch.enable_grad():
            x = context.saved_tensors[0].detach().requires_grad_()
            pooled = _pool(x, *context.settings)
        return (*torch.autograd.grad(pooled, x, gradients[0]), None, None, None)

    @staticmethod
    def symbolic(graph: Any, x: Any, kernel: int, stride: int, pads: tuple[int, int, int, int]) -> Any:
        left, right, top, bottom = pads
        return graph.op(
            "MaxPool",
            x,
            kernel_shape_i=[kernel, kernel],
            strides_i=[stride, stride],
            pads_i=[top, left, bottom, right],
        )


def _pool(x: Tensor, kernel: int, stride: int, pads: tuple[int, int, int, int]) -> Tensor:
    return functional.max_pool2d(functional.pad(x, pads, value=-torch.inf), kernel, stride)
