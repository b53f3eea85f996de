"""The view plan: which frames and which crops of a sample a network sees, and the tensor they make."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["ViewPlan"]

Triple = tuple[float, float, float]
Positive = Annotated[int, Field(gt=0)]


class ViewPlan(BaseModel):
    """How a video becomes the `frames_per_sample` crops of one sample.

    `num_segments` equal stretches give one frame each (`clip_len` 1); `twice_sample` adds a second temporal
    phase; `crop` is one centre square or three squares along the longer side. Sizes are in pixels, `mean`
    and `std` on the 0..255 scale in the order of `colour`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sampling: Literal["uniform", "dense"] = "uniform"
    num_segments: Positive
    clip_len: Literal[1] = 1
    frame_interval: Positive = 1
    twice_sample: bool = False
    short_side: Positive
    crop: Literal["center", "three"]
    crop_size: Positive
    colour: Literal["rgb", "bgr"] = "rgb"
    mean: Triple
    std: Triple
    layout: Literal["NCHW"] = "NCHW"

    @model_validator(mode="after")
    def _crops_fit(self) -> ViewPlan:
        if self.crop == "three" and self.crop_size != self.short_side:
            raise ValueError(
                f"three crops slide along the longer side, so crop_size must equal short_side {self.short_side}, "
                f"found {self.crop_size}"
            )
        if self.crop_size > self.short_side:
            raise ValueError(f"crop_size {self.crop_size} does not fit into short_side {self.short_side}")
        return self

    @property
    def phases(self) -> int:
        """Temporal positions at which the segments are sampled: dense testing takes ten (mmaction2)."""
        return 10 if self.sampling == "dense" else 1 + self.twice_sample

    @property
    def crops(self) -> int:
        """Spatial crops of each frame."""
        return 3 if self.crop == "three" else 1

    @property
    def clips(self) -> int:
        """Views of one sample: each is `num_segments` frames that the network sees together."""
        return self.phases * self.crops

    @property
    def frames_per_sample(self) -> int:
        """Crops in one sample's tensor, ordered crop by crop, within it phase by phase, then in time."""
        return self.clips * self.num_segments * self.clip_len

    @property
    def sample_shape(self) -> tuple[int, int, int, int]:
        """The shape of one sample's tensor, e.g. (48, 3, 256, 256)."""
        return (self.frames_per_sample, 3, self.crop_size, self.crop_size)

    @property
    def arithmetic(self) -> str:
        """How the frame count comes about, in words."""
        return (
            f"{self.num_segments} segments x {self.phases} temporal phase(s) x {self.crops} crop(s) "
            f"= {self.frames_per_sample} frames of 3 x {self.crop_size} x {self.crop_size}"
        )
