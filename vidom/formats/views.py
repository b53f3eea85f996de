"""The view plan: which frames and which crops of a sample a network sees, and the tensor they make."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

__all__ = ["Layout", "Pipeline", "ViewPlan"]

Pipeline = Literal["mmaction2", "paddlevideo", "mindspore"]
Layout = Literal["NCHW", "NCTHW", "stacked", "planes"]
# Beyond these limits normalised pixels would overflow float32.
Mean = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Deviation = Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)]
Positive = Annotated[int, Field(gt=0, le=10_000)]

# The largest recipe, I3D's thirty views, has 0.76 GB.
_MAX_SAMPLE_BYTES = 1 << 33

_DENSE_POSITIONS = 10
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


def _width_and_height(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return value
    found = _SIZE.fullmatch(str(value))
    if found is None:
        raise ValueError("must be width and height in pixels, such as 455x256")
    return tuple(map(int, found.groups()))


FrameSize = Annotated[tuple[Positive, Positive], BeforeValidator(_width_and_height)]


class ViewPlan(BaseModel):
    """How a video becomes one sample's tensor.

    The video is sampled at `num_segments` places, `clip_len` frames (`frame_interval` apart) at each;
    `twice_sample` adds a second temporal phase, dense `sampling` takes ten positions. `crop` is one centre
    square or three squares of the resized frame. Sizes are in pixels; `mean` and `std` are in the order of
    `colour` and on the scale of the pixels divided by `pixel_scale`.

    `pipeline` names whose decoder, resizing, rounding and order of operations are reproduced. `layout` is how
    a network takes the frames: NCHW as an image sequence (TSM, PP-TSM: all segments are one view), NCTHW as
    clips with time after the channels (I3D: each segment is a view), `stacked` as one image of
    3 * clip_len channels for each segment (StNet), `planes` as three colours of all frames (StNet's second
    generation).

    With `frame_size` (455x256, or width and height) a sample holds its resized frames uncropped and once instead of
    each crop, and the model's graph cuts the views out of them. All videos must then have that size. A frame that
    several clips share is there for each of them, since how many do depends on the video's length.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pipeline: Pipeline = "mmaction2"
    sampling: Literal["uniform", "dense"] = "uniform"
    num_segments: Positive
    clip_len: Positive = 1
    frame_interval: Positive = 1
    twice_sample: bool = False
    short_side: Positive
    crop: Literal["center", "three"]
    crop_size: Positive
    colour: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]
    layout: Layout = "NCHW"
    frame_size: FrameSize | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> ViewPlan:
        if self.crop_size > self.short_side:
            raise ValueError(f"crop_size {self.crop_size} does not fit into short_side {self.short_side}")
        if self.crop == "three" and self.pipeline == "mmaction2" and self.crop_size != self.short_side:
            raise ValueError(
                f"three crops slide along the longer side, so crop_size must equal short_side {self.short_side}, "
                f"found {self.crop_size}"
            )
        if self.frame_size and (self.crop != "three" or min(self.frame_size) != self.short_side):
            raise ValueError(
                f"frame_size {self.frame_size[0]}x{self.frame_size[1]} is that of the resized frames that three crops "
                f"are taken of, so its shorter side must be short_side {self.short_side}; of one crop the frames "
                "would be larger than the crop"
            )
        if self.layout == "NCHW" and self.clip_len != 1:
            raise ValueError(f"layout NCHW takes one frame from each segment, found clip_len {self.clip_len}")
        if self.layout == "NCTHW" and self.twice_sample:
            # The original halves the clips of a video shorter than one clip, so that samples differ in size.
            raise ValueError("layout NCTHW does not go with twice_sample")
        if self.layout in ("stacked", "planes") and (self.crops, self.phases) != (1, 1):
            raise ValueError(
                f"layout {self.layout} is one view, found {self.phases} phase(s) x {self.crops} crop(s)"
            )
        size = 4 * math.prod(self.sample_shape)
        if size > _MAX_SAMPLE_BYTES:
            raise ValueError(
                f"one sample would have {size / 1e9:.1f} GB ({self.arithmetic}); the maximum is "
                f"{_MAX_SAMPLE_BYTES / 1e9:.1f} GB"
            )
        return self

    @property
    def pixel_scale(self) -> int:
        """What pixels are divided by before mean and std: 1 in mmaction2, 255 in the others."""
        return 1 if self.pipeline == "mmaction2" else 255

    @property
    def phases(self) -> int:
        """Temporal positions at which the segments are sampled."""
        return _DENSE_POSITIONS if self.sampling == "dense" else 1 + self.twice_sample

    @property
    def crops(self) -> int:
        """Spatial crops of each frame."""
        return 3 if self.crop == "three" else 1

    @property
    def clips(self) -> int:
        """Views of one sample; the network gives a row of logits for each."""
        return self.phases * self.crops * (self.num_segments if self.layout == "NCTHW" else 1)

    @property
    def frames_per_crop(self) -> int:
        """Frames that each crop is taken of, in the order of the tensor: phase by phase, then in time."""
        return self.phases * self.num_segments * self.clip_len

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample's tensor: that of its views, or (16, 3, 256, 455) for uncropped frames of 455x256."""
        if self.frame_size is None:
            return self.views_shape
        width, height = self.frame_size
        return (self.frames_per_crop, 3, height, width)

    @property
    def views_shape(self) -> tuple[int, ...]:
        """The shape of one sample's views as the network takes them, e.g. (48, 3, 256, 256); crop by crop."""
        size = (self.crop_size, self.crop_size)
        if self.layout == "NCTHW":
            return (self.clips, 3, self.clip_len, *size)
        if self.layout == "stacked":
            return (self.num_segments, 3 * self.clip_len, *size)
        if self.layout == "planes":
            return (3, self.frames_per_crop, *size)
        return (self.crops * self.frames_per_crop, 3, *size)

    @property
    def images_shape(self) -> tuple[int, int, int, int]:
        """The shape of one crop's frames as images, e.g. (8, 224, 224, 3): frame after frame, colours interleaved."""
        return (self.frames_per_crop, self.crop_size, self.crop_size, 3)

    @property
    def one_view(self) -> ViewPlan:
        """The plan whose sample has the shape of one of this plan's views, e.g. (8, 3, 256, 256)."""
        segments = 1 if self.layout == "NCTHW" else self.num_segments
        single = {"sampling": "uniform", "twice_sample": False, "crop": "center", "num_segments": segments}
        return self.model_copy(update={**single, "frame_size": None})

    @property
    def arithmetic(self) -> str:
        """How the sample's shape comes about, in words."""
        frames = f" x {self.clip_len} frames" if self.clip_len > 1 else ""
        segments = f"{self.num_segments} segments{frames} x {self.phases} temporal phase(s)"
        if self.frame_size:
            width, height = self.frame_size
            return f"{segments} = {self.frames_per_crop} uncropped frames of 3 x {height} x {width}"
        return (
            f"{segments} x {self.crops} crop(s) "
            f"= {self.crops * self.frames_per_crop} frames of 3 x {self.crop_size} x {self.crop_size}"
        )
