"""The `train` section of a recipe: how its network is trained. Nothing built or packed depends on it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vidom.formats.views import ViewPlan

__all__ = [
    "AdamW",
    "Augmentation",
    "CosineSchedule",
    "MultiScaleCrop",
    "OneCycleSchedule",
    "PerStepSchedule",
    "PreciseBatchNorm",
    "RandomCrop",
    "RandomResizedCrop",
    "Schedule",
    "Sgd",
    "StepSchedule",
    "TrainSection",
    "Warmup",
]

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sgd(_Section):
    """Stochastic gradient descent with momentum; `groups` as in `train.learning.parameter_groups`."""

    type: Literal["sgd"]
    momentum: Fraction = 0.9
    nesterov: bool = False
    weight_decay: Amount = 1e-4
    groups: Literal["single", "tsm", "pptsm", "no_decay_1d", "no_decay_norm"] = "single"


class AdamW(_Section):
    """AdamW with torch's betas."""

    type: Literal["adamw"]
    weight_decay: Amount = 0.05
    groups: Literal["single", "no_decay_1d"] = "no_decay_1d"


class StepSchedule(_Section):
    """The rate times `gamma` from each of the epochs `milestones` on, which count from 0."""

    type: Literal["step"]
    milestones: tuple[Positive, ...]
    gamma: Rate = 0.1


class PerStepSchedule(_Section):
    """The rate times `gamma` after step n, counted from 1, wherever `n // steps per epoch` is a multiple of `every`.

    MindSpore's StNet, from 1.9 on, on a device that calls back after each step, a CPU among them. It means "every 40
    epochs", but 0 is a multiple too: the rate falls after all steps but the last of the first epoch. Where an epoch is
    one call, on Ascend, it is a `step` schedule. `milestones` are further epochs from which on the rate is multiplied,
    as its evaluation callback does.
    """

    type: Literal["per_step"]
    every: Positive
    milestones: tuple[Positive, ...] = ()
    gamma: Rate = 0.1


class CosineSchedule(_Section):
    """The rate falls along half a cosine from 1 to `min_ratio` of itself; `by` the epoch or the step.

    `epochs` is the length of the half cosine, by default that of the training, which may end before.
    """

    type: Literal["cosine"]
    epochs: Positive | None = None
    min_ratio: Fraction = 0.0
    by: Literal["epoch", "step"] = "epoch"


class OneCycleSchedule(_Section):
    """Torch's OneCycleLR with its defaults: up to the rate during `rising` of all steps, then down to almost 0."""

    type: Literal["one_cycle"]
    rising: Fraction = 0.3


Schedule = Annotated[
    StepSchedule | PerStepSchedule | CosineSchedule | OneCycleSchedule, Field(discriminator="type")
]


class Warmup(_Section):
    """The rate rises from `start_ratio` of itself during the first `epochs`.

    With `factor` (mmcv) the scheduled rate is multiplied by a factor that rises linearly to 1; with `line`
    (PaddleVideo) the rate itself is on a straight line to the scheduled one of the end of the warm-up.
    """

    type: Literal["factor", "line"] = "factor"
    epochs: Rate
    start_ratio: Fraction = 0.1


class PreciseBatchNorm(_Section):
    """Batch statistics are averaged over `batches` of the epoch, after its first and every `every`-th from there.

    And after the last epoch. So does PaddleVideo (PRECISEBN: preciseBN_interval, num_iters_preciseBN).
    """

    every: Positive
    batches: Positive


class MultiScaleCrop(_Section):
    """TSN's crop: sides of `scales` times the frame's shorter side, at one of `positions` fixed positions.

    With `resize_to` the crop is resized to that size, and a random square of the section's crop_size is taken of it.
    """

    type: Literal["multi_scale"]
    scales: tuple[Rate, ...] = (1.0, 0.875, 0.75, 0.66)
    max_scale_gap: Count = 1
    positions: Literal[5, 13] = 13
    resize_to: Positive | None = None


class RandomResizedCrop(_Section):
    """Inception's crop: a random part of the frame's area with a random aspect ratio."""

    type: Literal["random_resized"]
    area: tuple[Rate, Rate] = (0.08, 1.0)
    aspect: tuple[Rate, Rate] = (3 / 4, 4 / 3)


class RandomCrop(_Section):
    """A square of the crop size at a random position of the resized frame; nothing is resized again."""

    type: Literal["random"]


class CenterCrop(_Section):
    """No augmentation: the crop of the validation."""

    type: Literal["center"]


class Augmentation(_Section):
    """Random crop and flip of all frames of a clip alike, before they are resized to `crop_size`.

    `flip` is the probability of a horizontal flip; `flip_labels` maps the labels whose meaning it swaps, such as
    "moving something from left to right".
    """

    crop: Annotated[MultiScaleCrop | RandomResizedCrop | RandomCrop | CenterCrop, Field(discriminator="type")]
    flip: Fraction = 0.0
    flip_labels: dict[Count, Count] = {}


class TrainSection(_Section):
    """How a network is trained.

    `lr` is the learning rate of a global batch of `lr_batch` clips; for another one it is scaled in proportion (Goyal
    et al., 2017). Without `lr_batch` it is used as it is. `batch_size` counts clips per device and step. The gradients
    of `accumulate` steps, fewer at the end of an epoch, make one update. `pretrained` is the checkpoint that the
    network begins from, of this network with any classes or of an image ResNet. `sampling`, `segments` and `crop_size`
    are the network's input in training and in the validation after every `validate_every` epochs, which sees one view:
    a centre crop. `dropout` is that of the head, null the network's own: 0.5 in TSM and I3D, none in StNet. With
    `validation: training_clips` random clips of the training list are validated instead of the validation list, as
    StNet's original does by a slip; such an accuracy says nothing about other videos. `compile` trains what
    torch.compile makes of the network; validation and the names in checkpoints do not change.
    """

    epochs: Positive
    batch_size: Positive
    lr: Rate
    lr_batch: Positive | None = None
    optimizer: Annotated[Sgd | AdamW, Field(discriminator="type")]
    schedule: Schedule
    warmup: Warmup | None = None
    accumulate: Positive = 1
    clip_norm: Rate | None = None
    dropout: Fraction | None = None
    label_smoothing: Fraction = 0.0
    mixup: Amount = 0.0
    batch_norm: Literal["train", "partial", "frozen"] = "train"
    precise_batch_norm: PreciseBatchNorm | None = None
    pretrained: str | None = None
    sampling: Literal["uniform", "dense"] = "uniform"
    segments: Positive
    crop_size: Positive
    augmentation: Augmentation
    precision: Literal["no", "bf16", "fp16"] = "no"
    compile: bool = False
    validate_every: Positive = 1
    validation: Literal["centre_clips", "training_clips"] = "centre_clips"

    @model_validator(mode="after")
    def _milestones_rise(self) -> TrainSection:
        if isinstance(self.schedule, StepSchedule | PerStepSchedule):
            milestones = self.schedule.milestones
            if list(milestones) != sorted(set(milestones)):
                raise ValueError(f"schedule.milestones must increase, found {list(milestones)}")
        return self

    @model_validator(mode="after")
    def _crop_fits(self) -> TrainSection:
        crop = self.augmentation.crop
        if isinstance(crop, MultiScaleCrop) and crop.resize_to and crop.resize_to < self.crop_size:
            raise ValueError(f"crop_size {self.crop_size} does not fit into resize_to {crop.resize_to}")
        return self

    def views(self, views: ViewPlan) -> ViewPlan:
        """Return the view plan of training and validation for a recipe whose test views are `views`: one view."""
        return views.model_copy(
            update={
                "num_segments": self.segments,
                "twice_sample": False,
                "sampling": "uniform",
                "crop": "center",
                "crop_size": self.crop_size,
                "frame_size": None,
            }
        )
