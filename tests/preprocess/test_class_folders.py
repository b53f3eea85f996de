"""Custom data sets: labels from folder names, video files or frame folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from packing import packed_by_one
from small_videos import write_video

from preprocess.datasets.annotations import read_annotations
from preprocess.prepare import PrepareOptions, prepare
from vidom.errors import BadDataError, UsageError
from vidom.formats.recipe import load_recipe


def test_classes_in_ascii_order_and_videos_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    for name in (
        "train/walk/clip 10.mp4",
        "train/walk/clip 9.mp4",
        "train/Wave (both)/a.avi",
        "val/walk/7.webm",
    ):
        write_video(src / name, frames=3)
    (src / "train" / "walk" / "notes.txt").write_text("no video")
    (src / "train" / ".cache").mkdir()
    prepare(PrepareOptions(dataset="folder", src=src, out=out))
    assert (out / "label_map.txt").read_text() == "Wave (both)\nwalk\n"
    assert (out / "train_list_videos.txt").read_text() == (
        "Wave (both)/a.avi 0\nwalk/clip 9.mp4 1\nwalk/clip 10.mp4 1\n"
    )
    # Underscores: `walk/clip 9 3 1` would be read as three frames from number nine on.
    assert (out / "train_list_rawframes.txt").read_text() == (
        "Wave_(both)/a 3 0\nwalk/clip_9 3 1\nwalk/clip_10 3 1\n"
    )
    assert (out / "val_list_rawframes.txt").read_text() == "walk/7 3 1\n"
    assert [entry.path for entry in read_annotations(out / "train_list_videos.txt")] == [
        "Wave (both)/a.avi",
        "walk/clip 9.mp4",
        "walk/clip 10.mp4",
    ]
    assert (out / "rawframes_train" / "walk" / "clip_10" / "img_00003.jpg").is_file()


def test_real_videos(shared: Path, tmp_path: Path, tiny_recipe: Path) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    clips = {"air drumming": ["part_0.mp4"], "zumba (indoor)": ["test.avi"]}
    for label, names in clips.items():
        (src / "val" / label).mkdir(parents=True)
        for name in names:
            (src / "val" / label / name).symlink_to(shared / "data" / "videos" / name)
    (split,) = prepare(PrepareOptions(dataset="folder", src=src, out=out, workers=2, short_side=64))
    assert [frames for _, frames in split.entries] == [32, 164]
    overrides = ["dataset.num_classes=2", f"dataset.labels={out / 'label_map.txt'}"]
    recipe = load_recipe(str(tiny_recipe), overrides)
    for kind, root in (("rawframes", split.frame_root), ("videos", src / "val")):
        store = packed_by_one(
            recipe=recipe, data_root=root, ann_file=out / f"val_list_{kind}.txt", output_dir=tmp_path / kind
        )
        assert [sample.label for sample in store.samples.values()] == [0, 1]


def test_real_folders_of_frames_are_used_as_they_are(shared: Path, tmp_path: Path) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    real = shared / "data" / "rawframes"
    for label, name in (("drumming", "demo"), ("zumba", "part_0"), ("zumba", "test")):
        (src / "val" / label).mkdir(parents=True, exist_ok=True)
        (src / "val" / label / name).symlink_to(real / name)
    counts = {name: len(list((real / name).glob("img_*.jpg"))) for name in ("demo", "part_0", "test")}
    (split,) = prepare(PrepareOptions(dataset="folder", src=src, out=out))
    assert split.frame_root == src / "val"
    assert (out / "val_list_rawframes.txt").read_text() == (
        f"drumming/demo {counts['demo']} 0\nzumba/part_0 {counts['part_0']} 1\nzumba/test {counts['test']} 1\n"
    )
    assert {path.name for path in out.iterdir()} == {
        "label_map.txt",
        "preparation.json",
        "val_list_rawframes.txt",
    }


def frames_in(folder: Path, numbers: list[int]) -> None:
    folder.mkdir(parents=True)
    for number in numbers:
        (folder / f"img_{number:05}.jpg").touch()


@pytest.mark.parametrize("first", [0, 1])
def test_frames_are_numbered_from_0_or_1(tmp_path: Path, first: int) -> None:
    frames_in(tmp_path / "val" / "a" / "video", [first, first + 1, first + 2])
    prepare(PrepareOptions(dataset="folder", src=tmp_path, out=tmp_path / "out"))
    assert (tmp_path / "out" / "val_list_rawframes.txt").read_text() == "a/video 3 0\n"


@pytest.mark.parametrize("numbers", [[], [2, 3], [1, 2, 4], [0, 2]])
def test_folders_with_gaps_fail_or_are_listed(tmp_path: Path, numbers: list[int]) -> None:
    frames_in(tmp_path / "val" / "a" / "good", [1, 2])
    frames_in(tmp_path / "val" / "a" / "bad", numbers)
    with pytest.raises(BadDataError, match=r"a/bad has \d frames"):
        prepare(PrepareOptions(dataset="folder", src=tmp_path, out=tmp_path / "out"))
    (split,) = prepare(PrepareOptions(dataset="folder", src=tmp_path, out=tmp_path / "out", on_bad="skip"))
    assert split.summary == "val: 1 of 2 videos (0 missing, 1 unreadable)"


def test_the_class_list_fixes_the_order(tmp_path: Path) -> None:
    write_video(tmp_path / "val" / "b" / "1.mp4", frames=2)
    names = tmp_path / "names.txt"
    names.write_text("c\nb\na\n")
    prepare(
        PrepareOptions(dataset="folder", src=tmp_path, out=tmp_path / "out", class_list=names, num_classes=3)
    )
    assert (tmp_path / "out" / "val_list_rawframes.txt").read_text() == "b/1 2 1\n"
    with pytest.raises(UsageError, match="3 classes, but 2 are expected"):
        prepare(
            PrepareOptions(
                dataset="folder", src=tmp_path, out=tmp_path / "out", class_list=names, num_classes=2
            )
        )


def test_ambiguous_input_is_rejected(tmp_path: Path) -> None:
    def message_of(case: str) -> str:
        with pytest.raises(BadDataError) as caught:
            prepare(PrepareOptions(dataset="folder", src=tmp_path / case, out=tmp_path / "out"))
        return str(caught.value)

    for name in ("train/a/1.mp4", "val/a/1.mp4", "val/b/1.mp4"):
        write_video(tmp_path / "unknown" / name, frames=1)
    assert "1 folder(s) that are not classes: b" in message_of("unknown")
    for name in ("val/a/x 1.mp4", "val/a/x_1.avi"):
        write_video(tmp_path / "collision" / name, frames=1)
    assert "'a/x_1' twice" in message_of("collision")
    write_video(tmp_path / "mixed" / "val" / "a" / "1.mp4", frames=1)
    frames_in(tmp_path / "mixed" / "val" / "a" / "2", [1])
    assert "both video files and frame folders" in message_of("mixed")
    frames_in(tmp_path / "numbered" / "val" / "a" / "clip 3", [1])
    assert "ends in a separate number" in message_of("numbered")
    write_video(tmp_path / "control" / "val" / "a" / "1\n2.mp4", frames=1)
    assert "line breaks" in message_of("control")
    write_video(tmp_path / "undecodable" / "val" / "a" / "1\udcff.mp4".replace("\udcff", "x"), frames=1)
    (tmp_path / "undecodable" / "val" / "a" / "1x.mp4").rename(
        tmp_path / "undecodable" / "val" / "a" / "1\udcff.mp4"
    )
    assert "non-printable" in message_of("undecodable")


def test_missing_folders_are_rejected(tmp_path: Path) -> None:
    write_video(tmp_path / "a" / "1.mp4", frames=1)
    with pytest.raises(UsageError, match="none of the folders train, val and test"):
        prepare(PrepareOptions(dataset="folder", src=tmp_path, out=tmp_path / "out"))
    (tmp_path / "train").mkdir()
    with pytest.raises(UsageError, match="no class folders"):
        prepare(PrepareOptions(dataset="folder", src=tmp_path, out=tmp_path / "out"))
    (tmp_path / "train" / "a").mkdir()
    with pytest.raises(BadDataError, match="None of the annotated videos"):
        prepare(PrepareOptions(dataset="folder", src=tmp_path, out=tmp_path / "out"))
    with pytest.raises(UsageError, match="none of the folders"):
        prepare(PrepareOptions(dataset="folder", src=tmp_path / "absent", out=tmp_path / "out"))
