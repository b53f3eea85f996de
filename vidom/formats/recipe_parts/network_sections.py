"""The network sections of a recipe: for each architecture the arguments that the rest of the recipe leaves open."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from vidom.formats.views import Layout, ViewPlan

__all__ = ["I3dSection", "NetworkSection", "PptsmSection", "StnetSection", "TsmSection"]

Positive = Annotated[int, Field(gt=0, le=10_000)]


class _NetworkSection(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    layouts: ClassVar[tuple[Layout, ...]] = ("NCHW",)
    """The tensor layouts that the network takes."""

    def arguments(self, views: ViewPlan) -> dict[str, Any]:
        """Return the keyword arguments of the network's constructor, the class count left out."""
        return {**self.model_dump(exclude={"arch"}), "num_segments": views.num_segments}


class TsmSection(_NetworkSection):
    """TSM of mmaction2; `shift: false` is its control, TSN."""

    arch: Literal["tsm"]
    depth: Literal[10, 18, 34, 50, 101] = 50
    base_channels: Positive = 64
    shift: bool = True
    shift_div: Positive = 8


class I3dSection(_NetworkSection):
    """I3D of mmaction2; the strides and `inflate_all` are those of its heavy variant where they differ."""

    layouts: ClassVar[tuple[Layout, ...]] = ("NCTHW",)

    arch: Literal["i3d"]
    depth: Literal[26, 50] = 50
    base_channels: Positive = 64
    conv1_stride_t: Positive = 2
    pool1_stride_t: Positive = 2
    inflate_all: bool = False

    def arguments(self, views: ViewPlan) -> dict[str, Any]:
        """Return the keyword arguments of the network's constructor, the class count left out."""
        return self.model_dump(exclude={"arch"})


class PptsmSection(_NetworkSection):
    """PP-TSM of PaddleVideo; `backbone_segments` is its configuration's MODEL.backbone.num_seg."""

    arch: Literal["pptsm"]
    depth: Literal[50, 101] = 50
    base_channels: Positive = 64
    backbone_segments: Positive = 8


class StnetSection(_NetworkSection):
    """StNet of MindSpore; a checkpoint's shapes decide about `depthwise`, seeded random weights take it from here."""

    layouts: ClassVar[tuple[Layout, ...]] = ("stacked", "planes")

    arch: Literal["stnet"]
    base_channels: Positive = 64
    depthwise: bool = False
    pool_size: Positive = 7

    def arguments(self, views: ViewPlan) -> dict[str, Any]:
        """Return the keyword arguments of the network's constructor, the class count left out."""
        return {
            **super().arguments(views),
            "frames_per_segment": views.clip_len,
            "input_layout": "A" if views.layout == "stacked" else "B",
        }


NetworkSection = Annotated[TsmSection | I3dSection | PptsmSection | StnetSection, Field(discriminator="arch")]
