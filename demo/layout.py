"""The demo's data set on disk, in Something-Something V2's official layout.

    annotations/something-something-v2-{labels,train,validation}.json
    videos/ID.webm
    rawframes/ID/img_00001.jpg ...
    sthv2_{train,val}_list_{videos,rawframes}.txt

The lists lie where mmaction2's data tools put them, beside the folders that their lines are relative to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vidom.errors import BadData
from vidom.files import read_json

__all__ = ["FRAME_TEMPLATE", "LIST_NAMES", "SPLITS", "Layout", "Split", "Video"]

Split = Literal["train", "validation"]

SPLITS: tuple[Split, ...] = ("train", "validation")
# mmaction2 shortens the name of one of them in its lists.
LIST_NAMES: dict[Split, str] = {"train": "train", "validation": "val"}
FRAME_TEMPLATE = "img_{:05}.jpg"


@dataclass(frozen=True)
class Video:
    """One labelled video of a split."""

    id: str
    label: int


@dataclass(frozen=True)
class Layout:
    """The paths of the data set under `root`."""

    root: Path

    @property
    def record(self) -> Path:
        """What the data set was generated from."""
        return self.root / "generated.json"

    @property
    def labels(self) -> Path:
        """Class name (template without brackets) to class number, both as text."""
        return self.root / "annotations" / "something-something-v2-labels.json"

    def annotation(self, split: Split) -> Path:
        """The split's videos with their templates."""
        return self.root / "annotations" / f"something-something-v2-{split}.json"

    def video(self, video_id: str) -> Path:
        """The video's file."""
        return self.root / "videos" / f"{video_id}.webm"

    def frames(self, video_id: str) -> Path:
        """The folder of the video's JPEG frames."""
        return self.root / "rawframes" / video_id

    def video_list(self, split: Split) -> Path:
        """Lines `ID.webm LABEL`, relative to `videos/`."""
        return self.root / f"sthv2_{LIST_NAMES[split]}_list_videos.txt"

    def frame_list(self, split: Split) -> Path:
        """Lines `ID FRAMES LABEL`, relative to `rawframes/`."""
        return self.root / f"sthv2_{LIST_NAMES[split]}_list_rawframes.txt"

    def read_split(self, split: Split) -> list[Video]:
        """Return the split's videos in the order of its annotation file.

        The label is the number that the labels file gives the template without its brackets. Raises BadData
        when a file is absent or not of that form.
        """
        path = self.annotation(split)
        entries = read_json(path, what=f"{split} annotations")
        numbers = read_json(self.labels, what="class numbers")
        try:
            return list(_labelled(entries, numbers))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadData(
                f"The annotations {path} do not fit the class numbers {self.labels} ({error!r}). Expected a list "
                "of entries with `id` and `template`, whose templates without brackets are the keys of the latter."
            ) from None


def _labelled(entries: Sequence[dict[str, Any]], numbers: dict[str, str]) -> Iterator[Video]:
    for entry in entries:
        video_id = entry["id"]
        if not video_id.isalnum():
            raise ValueError(f"the id {video_id!r} is no plain name")
        yield Video(id=video_id, label=int(numbers[entry["template"].replace("[", "").replace("]", "")]))
