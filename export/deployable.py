"""The module that is exported: normalisation before the network if asked for, softmax and averaging after it."""

from __future__ import annotations

from typing import Literal, Protocol, cast, get_args

import torch
from torch import Tensor, nn

from export.cut_views import cut_views
from vidom.formats.aipp import aipp_of
from vidom.formats.recipe import Recipe
from vidom.formats.views import ViewPlan

__all__ = ["INPUT_DTYPES", "Deployable", "InputDtype", "input_shape"]

InputDtype = Literal["float32", "uint8", "aipp"]
INPUT_DTYPES: tuple[InputDtype, ...] = get_args(InputDtype)


class _OfFrames(Protocol):
    def of_frames(self, frames: Tensor) -> Tensor:
        """Return the logits of each clip of frames [N, 3, H, W]."""


def input_shape(recipe: Recipe, batch_size: int, input_dtype: InputDtype) -> tuple[int, ...]:
    """Return the shape of the model's input for that many samples.

    For "aipp" the frames of all samples are one row of pictures. Raises UsageError as `aipp_of` does.
    """
    batch, *sample = recipe.input_shape(batch_size)
    if input_dtype != "aipp":
        return (batch, *sample)
    frames = aipp_of(recipe.views).frames_per_sample
    return (batch * frames, *sample[1:])


class Deployable(nn.Module):
    """Maps one batch of samples to one row per sample, shape (batch, classes), float32.

    The input has the recipe's shape, a batch of its view plan's `sample_shape`. As float32 it is normalised
    already; as uint8 it holds pixels 0..255 and (x / pixel_scale - mean) / std is computed here, in the order
    of operations that preprocessing uses, so that both inputs give the same float32 values bit for bit. Views are cut
    here where the plan's samples are whole frames (`frame_size`). For "aipp"
    it is normalised float32 again, which an NPU's AIPP makes of pixels, and a row of pictures, see `input_shape`.

    Rows are softmax(mean of the clips' logits) for `average_clips` "score", the mean of the clips' softmax
    for "prob" (mmaction2's meaning of both words), the mean logits when the recipe's head has no softmax.
    A recipe of single views (`Recipe.one_view`) has a row for each view, and nothing is averaged here.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, recipe: Recipe, *, input_dtype: InputDtype = "float32") -> None:
        super().__init__()
        self.network = network
        self.views = recipe.views
        self.clips = recipe.views.clips
        self.head = recipe.head
        self.normalise = input_dtype == "uint8"
        self.of_pictures = input_dtype == "aipp"
        self.pixel_scale = recipe.views.pixel_scale
        self.register_buffer("mean", _along_channels(recipe.views.mean, recipe.views))
        self.register_buffer("std", _along_channels(recipe.views.std, recipe.views))

    def forward(self, samples: Tensor) -> Tensor:
        """Return (batch, classes) rows for a batch of samples."""
        return self.average(self.clip_logits(samples))

    def clip_logits(self, samples: Tensor) -> Tensor:
        """Return the logits of each clip, shape (batch * clips, classes)."""
        samples = cut_views(samples, self.views)
        if self.normalise:
            pixels = samples.to(torch.float32)
            if self.pixel_scale != 1:
                pixels = pixels / self.pixel_scale
            samples = (pixels + -self.mean) / self.std
        if self.of_pictures:
            return cast("_OfFrames", self.network).of_frames(samples)
        logits: Tensor = self.network(samples)
        return logits

    def average(self, logits: Tensor) -> Tensor:
        """Return (batch, classes) rows from the clips' logits, shape (batch * clips, classes)."""
        if self.clips == 1:
            return logits.softmax(-1) if self.head.softmax else logits
        logits = logits.reshape(-1, self.clips, int(logits.shape[-1]))
        if not self.head.softmax:
            return logits.mean(1)
        return (
            logits.mean(1).softmax(-1) if self.head.average_clips == "score" else logits.softmax(-1).mean(1)
        )


def _along_channels(numbers: tuple[float, ...], views: ViewPlan) -> Tensor:
    """Return the three numbers in a shape that meets the channels of a batch of samples."""
    channels = torch.tensor(numbers)
    if views.layout == "stacked":
        return channels.repeat(views.clip_len).reshape(1, 1, -1, 1, 1)
    if views.layout == "planes":
        return channels.reshape(1, 3, 1, 1, 1)
    return channels.reshape(1, 1, 3, *[1] * (len(views.views_shape) - 2))
