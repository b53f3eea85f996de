"""The lists of MindSpore's StNet: `train.json` and `val.json`, which name videos whose packs hold the labels."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from preprocess.datasets.annotations import Annotation
from preprocess.sources.frame_pack import read_pack_label
from vidom.errors import BadDataError
from vidom.files import read_json

__all__ = ["pack_names", "read_pack_annotations"]

# The original cuts ".mp4" off by its length, whatever the last four characters are.
_SUFFIX_LENGTH = 4


def pack_names(ann_file: Path) -> tuple[str, ...]:
    """Return the names, without `.pkl`, of the packs that a JSON array of {"video_name": "x.mp4"} lists.

    Raises BadDataError when the file is no such array, is empty, or has a name that leaves its folder or appears
    twice.
    """
    entries = read_json(ann_file, what="list")
    if not isinstance(entries, list) or not entries:
        raise BadDataError(
            f'The list {ann_file} must be a JSON array of {{"video_name": "x.mp4"}}, not empty.'
        )
    names: dict[str, None] = {}
    for number, entry in enumerate(entries, 1):
        video = entry.get("video_name") if isinstance(entry, dict) else None
        if not isinstance(video, str) or len(video) <= _SUFFIX_LENGTH:
            raise BadDataError(f'Entry {number} of the list {ann_file} has no "video_name" such as "x.mp4".')
        name = video[:-_SUFFIX_LENGTH]
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name or name in names:
            raise BadDataError(
                f"Entry {number} of the list {ann_file}, {video[:120]!r}, leaves the folder of packs or appears "
                "twice. Write each video's name once, relative to that folder."
            )
        names[name] = None
    return tuple(names)


def read_pack_annotations(
    ann_file: Path, *, data_root: Path, folder: str, num_classes: int | None = None
) -> tuple[Annotation, ...]:
    """Return the annotations of the packs `data_root/folder/NAME.pkl` that the list names, in its order.

    The labels come from the packs, of which only the first bytes are read. Raises BadDataError as `pack_names` and
    `read_pack_label` do, and for a label that is no class.
    """
    annotations = []
    for name in pack_names(ann_file):
        path = f"{folder}/{name}.pkl"
        label = read_pack_label(data_root / path)
        if num_classes is not None and label >= num_classes:
            raise BadDataError(
                f"The pack {data_root / path} has label {label}, but the recipe has the classes 0 to "
                f"{num_classes - 1}. It belongs to another data set."
            )
        annotations.append(Annotation(name, path, None, label))
    return tuple(annotations)
