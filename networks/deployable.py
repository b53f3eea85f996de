"""What is exported and scored: the network with normalisation, view crops, softmax and averaging around it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol, cast

import torch
from torch import Tensor, nn

from networks.loading import Provenance, load_network
from vidom.errors import UsageError
from vidom.formats.aipp import aipp_of
from vidom.formats.crop_boxes import crop_boxes
from vidom.formats.recipe import Recipe
from vidom.formats.views import ViewPlan

__all__ = [
    "INPUT_NAME",
    "Deployable",
    "InputDtype",
    "along_channels",
    "build_deployable",
    "cut_views",
    "input_shape",
    "output_name",
]

INPUT_NAME = "clips"

InputDtype = Literal["float32", "uint8", "aipp"]


class _OfFrames(Protocol):
    """A network that also takes frames one after the other."""

    def of_frames(self, frames: Tensor) -> Tensor:
        """Return the logits of each clip of frames [N, 3, H, W]."""


def input_shape(recipe: Recipe, batch_size: int, input_dtype: InputDtype) -> tuple[int, ...]:
    """Return the shape of the model's input for that many samples.

    For "aipp" dimension 0 counts the frames of all samples. Raises UsageError as `aipp_of` does.
    """
    batch, *sample = recipe.input_shape(batch_size)
    if input_dtype != "aipp":
        return (batch, *sample)
    frames = aipp_of(recipe.views).frames_per_sample
    return (batch * frames, *sample[1:])


def output_name(recipe: Recipe) -> str:
    """Return the name of the rows that the recipe's head gives."""
    return "probabilities" if recipe.head.softmax else "logits"


class Deployable(nn.Module):
    """A network that maps a batch of samples to one row per sample, shape (batch, classes), float32.

    The input has the recipe's shape, a batch of its view plan's `sample_shape`. float32 input is normalised already;
    uint8 input holds pixels 0..255, and (x / pixel_scale - mean) / std is computed here, in the order of operations of
    preprocessing, so that both give the same float32 values bit for bit. Views are cut here where the samples are full
    frames (`frame_size`). For "aipp" the input is normalised float32 again, which an NPU's AIPP computes from pixels,
    one image after the other, see `input_shape`.

    Rows are softmax(mean of the clips' logits) for `average_clips` "score", the mean of the clips' softmax for "prob"
    (both words as in mmaction2), and the mean logits if the recipe's head has no softmax. A recipe of single views
    (`Recipe.one_view`) has one row per view, and nothing is averaged here.
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
        self.takes_frames = input_dtype == "aipp"
        self.pixel_scale = recipe.views.pixel_scale
        self.register_buffer("mean", along_channels(recipe.views.mean, recipe.views))
        self.register_buffer("std", along_channels(recipe.views.std, recipe.views))

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
        if self.takes_frames:
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


def along_channels(numbers: tuple[float, ...], views: ViewPlan) -> Tensor:
    """Return the three numbers in a shape that broadcasts along the channels of a batch of samples."""
    channels = torch.tensor(numbers)
    if views.layout == "stacked":
        return channels.repeat(views.clip_len).reshape(1, 1, -1, 1, 1)
    if views.layout == "planes":
        return channels.reshape(1, 3, 1, 1, 1)
    return channels.reshape(1, 1, 3, *[1] * (len(views.views_shape) - 2))


def cut_views(frames: Tensor, plan: ViewPlan) -> Tensor:
    """Return the views of full frames, shape (batch, *plan.views_shape), in the dtype of the frames.

    `frames` are (batch, frames_per_crop, 3, height, width) and of the plan's `frame_size`; without one they are the
    views already. In ONNX this is a Slice for each crop and a Concat, in layout NCTHW a Reshape and a Transpose too.
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


def build_deployable(
    recipe: Recipe, checkpoint: str, *, input_dtype: InputDtype = "float32", ignore_meta: bool = False
) -> tuple[Deployable, Provenance]:
    """Return the module of a recipe, in evaluation mode with the checkpoint's weights, and their origin.

    `checkpoint` is a path, "seeded:N" for random weights of that seed, or empty for the recipe's own file, if this
    repository has it. `ignore_meta` is that of `load_network`. Raises UsageError, naming the published checkpoint, when
    there is none, and what `load_network` raises.
    """
    checkpoint = checkpoint or _own_checkpoint(recipe)
    if not checkpoint.startswith("seeded:") and not Path(checkpoint).is_file():
        missing = f"{checkpoint} does not exist" if checkpoint else "none was given"
        source = recipe.checkpoint.url or "(it is not published)"
        raise UsageError(
            f"The recipe {recipe.name} needs a {recipe.checkpoint.framework} checkpoint, but {missing}. Download "
            f"{source} and pass its path with --checkpoint (make: CKPT=path). To try the pipeline without it, use "
            "--checkpoint seeded:0: seeded random weights, with which accuracy is meaningless."
        )
    network, provenance = load_network(recipe, checkpoint, ignore_meta=ignore_meta)
    return Deployable(network, recipe, input_dtype=input_dtype).eval(), provenance


def _own_checkpoint(recipe: Recipe) -> str:
    path = Path(__file__).resolve().parents[1] / recipe.checkpoint.file
    return str(path) if path.is_file() else ""
