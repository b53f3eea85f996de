"""The views of samples whose frames are stored whole, cut inside the graph."""

from __future__ import annotations

import torch
from torch import Tensor

from vidom.formats.crop_boxes import crop_boxes
from vidom.formats.views import ViewPlan

__all__ = ["cut_views"]


def cut_views(frames: Tensor, plan: ViewPlan) -> Tensor:
    """Return the views of whole frames, shape (batch, *plan.views_shape), of whichever dtype the frames are.

    `frames` are (batch, frames_per_crop, 3, height, width) and of the plan's `frame_size`. In ONNX this is a Slice for
    each crop and a Concat, in layout NCTHW a Reshape and a Transpose too.
    """
    if plan.frame_size is None:
        return frames
    boxes = crop_boxes(*plan.frame_size, plan)
    crops = [frames[..., box.top : box.bottom, box.left : box.right] for box in boxes]
    views = torch.cat(crops, dim=1)
    if plan.layout == "NCTHW":
        size = (plan.crop_size, plan.crop_size)
        return views.reshape(-1, plan.clips, plan.clip_len, 3, *size).transpose(2, 3)
    return views
