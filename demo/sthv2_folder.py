"""The demo's data set on disk, in Something-Something V2's official layout.

    annotations/something-something-v2-{labels,train,validation}.json
    videos/ID.webm
    rawframes/ID/img_00001.jpg ...
    sthv2_{train,val}_list_{videos,rawframes}.txt

The lists are where mmaction2's data tools put them, next to the folders that their lines are relative to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["SPLITS", "Layout", "Split"]

Split = Literal["train", "validation"]

SPLITS: tuple[Split, ...] = ("train", "validation")
# mmaction2 shortens one of the names in its lists.
_LIST_NAMES: dict[Split, str] = {"train": "train", "validation": "val"}


@dataclass(frozen=True)
class Layout:
    """The paths of the data set under `root`."""

    root: Path

    @property
    def record(self) -> Path:
        """The settings that the data set was generated with."""
        return self.root / "generated.json"

    @property
    def labels(self) -> Path:
        """The file of class names (templates without brackets) and numbers, both as text."""
        return self.root / "annotations" / "something-something-v2-labels.json"

    def annotation(self, split: Split) -> Path:
        """The file of the split's videos with their templates."""
        return self.root / "annotations" / f"something-something-v2-{split}.json"

    def video(self, video_id: str) -> Path:
        """The file of the video."""
        return self.root / "videos" / f"{video_id}.webm"

    def frames(self, video_id: str) -> Path:
        """The folder of the video's JPEG frames."""
        return self.root / "rawframes" / video_id

    def frame_list(self, split: Split) -> Path:
        """The list of `ID FRAMES LABEL` lines, relative to `rawframes/`."""
        return self.root / f"sthv2_{_LIST_NAMES[split]}_list_rawframes.txt"
