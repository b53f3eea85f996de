"""Both temporal shifts keep the memory layout of the frames; their values are tested with their networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from networks.shift import paddle_temporal_shift, temporal_shift


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shift", [partial(temporal_shift, shift_div=4), paddle_temporal_shift])
def test_frames_and_gradients_keep_their_memory_layout(
    shift: Callable[..., Tensor], layout: torch.memory_format
) -> None:
    frames, gradient = torch.randn(2, 12, 9, 5, 3).unbind()
    expected_input = frames.clone().requires_grad_()
    expected = shift(expected_input, num_segments=6)
    torch.autograd.backward(expected, gradient)

    laid_out = frames.to(memory_format=layout).requires_grad_()
    shifted = shift(laid_out, num_segments=6)
    torch.autograd.backward(shifted, gradient.to(memory_format=layout))
    assert shifted.is_contiguous(memory_format=layout)
    assert torch.equal(shifted, expected)
    assert laid_out.grad is not None
    assert expected_input.grad is not None
    assert laid_out.grad.is_contiguous(memory_format=layout)
    assert torch.equal(laid_out.grad, expected_input.grad)
