"""StNet's JSON lists of packs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from preprocess.datasets.sample_list import pack_names, read_pack_annotations
from vidom.errors import BadDataError

PACKS = ("small096x072_000011_000021", "tiny003frame_000004_000014")


def test_labels_are_read_from_the_listed_packs(fixtures: Path, tmp_path: Path) -> None:
    ann_file = tmp_path / "val.json"
    ann_file.write_text(json.dumps([{"video_name": f"{name}.mp4"} for name in PACKS]))
    (tmp_path / "val").symlink_to(fixtures / "mindspore")
    annotations = read_pack_annotations(ann_file, data_root=tmp_path, folder="val", num_classes=400)
    assert [(entry.id, entry.path, entry.label) for entry in annotations] == [
        (PACKS[0], f"val/{PACKS[0]}.pkl", 15),
        (PACKS[1], f"val/{PACKS[1]}.pkl", 5),
    ]
    with pytest.raises(BadDataError, match="label 15"):
        read_pack_annotations(ann_file, data_root=tmp_path, folder="val", num_classes=15)


def test_the_list_of_the_original_is_read(shared: Path) -> None:
    names = pack_names(shared / "data/stnet/val.json")
    assert len(names) == 12
    assert names[0] == "demo-_340256_000000_000010"


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        ["x.mp4"],
        [{"video": "x.mp4"}],
        [{"video_name": 3}],
        [{"video_name": ".mp4"}],
        [{"video_name": "../../x.mp4"}],
        [{"video_name": "/etc/passwd.mp4"}],
        [{"video_name": "x.mp4"}, {"video_name": "x.avi"}],
    ],
)
def test_invalid_lists_are_rejected(tmp_path: Path, document: Any) -> None:
    ann_file = tmp_path / "val.json"
    ann_file.write_text(json.dumps(document))
    with pytest.raises(BadDataError, match=r"val\.json"):
        pack_names(ann_file)
