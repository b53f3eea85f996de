"""From the pixels of clips to the network's input, on the device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from networks.deployable import along_channels
from vidom.formats.views import ViewPlan

__all__ = ["Normalisation", "arranged"]


class Normalisation(nn.Module):
    """From uint8 images to the network's input: arranged, then (pixel / pixel_scale - mean) / std in float32.

    The operations round like the table of `preprocess.tensors.pixels`, so that training and packed clips agree.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, plan: ViewPlan) -> None:
        super().__init__()
        self.plan = plan
        self.scale = float(plan.pixel_scale)
        self.register_buffer("mean", along_channels(plan.mean, plan), persistent=False)
        self.register_buffer("std", along_channels(plan.std, plan), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 [n, *sample_shape] of images [n, *images_shape], RGB.

        Frames of layout NCHW stay channels-last in the memory of an NVIDIA GPU, as its 2-D convolutions take them.
        """
        kept = images.is_cuda and self.plan.layout == "NCHW"
        layout = torch.preserve_format if kept else torch.contiguous_format
        values = arranged(images, self.plan).to(torch.float32, memory_format=layout)
        return (values / self.scale if self.scale != 1 else values).sub_(self.mean).div_(self.std)


def arranged(images: Tensor, plan: ViewPlan) -> Tensor:
    """Return images [n, *plan.images_shape], RGB, as [n, *plan.sample_shape]: a view, unless values change places."""
    if plan.colour == "bgr":
        images = images.flip(-1)
    if plan.layout == "NCHW":
        return images.permute(0, 1, 4, 2, 3)
    if plan.layout == "planes":
        return images.permute(0, 4, 1, 2, 3)
    clips = images.reshape(len(images), -1, plan.clip_len, *images.shape[2:])
    if plan.layout == "NCTHW":
        return clips.permute(0, 1, 5, 2, 3, 4)
    return clips.permute(0, 1, 2, 5, 3, 4).flatten(2, 3)
