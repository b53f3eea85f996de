"""UCF101 in miniature: three official splits, quirks of spelling, and the subset of sports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from packing import packed_by_one
from small_videos import tree, write_video

from preprocess.prepare import PrepareOptions, main, prepare
from vidom.errors import BadDataError, UsageError
from vidom.formats.recipe import load_recipe

FRAMES = {
    "ApplyEyeMakeup_g01": 164,
    "ApplyEyeMakeup_g08": 120,
    "ApplyLipstick_g01": 221,
    "Archery_g01": 136,
    "Archery_g08": 99,
}


def write_lists(folder: Path, classes: list[str], train: list[str], test: list[str], splits=(1,)) -> None:
    """Write the official files; videos are `CLASS/NAME`."""
    folder.mkdir(parents=True)
    numbers = {name: number for number, name in enumerate(classes, 1)}
    (folder / "classInd.txt").write_text("".join(f"{number} {name}\r\n" for name, number in numbers.items()))
    for split in splits:
        lines = "".join(f"{video}.avi {numbers.get(video.split('/')[0], 1)}\r\n" for video in train)
        (folder / f"trainlist{split:02}.txt").write_text(lines)
        (folder / f"testlist{split:02}.txt").write_text("".join(f"{video}.avi\r\n" for video in test))


def test_the_lists_match_the_original_tool(shared: Path, tmp_path: Path) -> None:
    reference = shared / "fixtures" / "mmaction2" / "annotations" / "ucf101"
    shutil.copytree(reference / "annotations", tmp_path / "src" / "annotations")
    for name, frames in FRAMES.items():
        folder = name.split("_")[0]
        write_video(tmp_path / "src" / "videos" / folder / f"v_{name}_c01.avi", frames=frames)
    prepare(PrepareOptions(dataset="ucf101", src=tmp_path / "src", out=tmp_path / "out", num_classes=3))
    lists = sorted(reference.glob("*.txt"))
    assert len(lists) == 12
    for path in lists:
        assert (tmp_path / "out" / path.name).read_text() == path.read_text()


@pytest.fixture
def quirky(tmp_path: Path) -> Path:
    """Classes that are not in ASCII order; folders and files whose case differs from the lists."""
    src = tmp_path / "src"
    write_lists(
        src / "ucfTrainTestlist",
        ["HammerThrow", "Hammering", "HandstandPushups"],
        ["Hammering/v_Hammering_g08_c01", "HandstandPushups/v_HandStandPushups_g08_c01"],
        ["HammerThrow/v_HammerThrow_g01_c01", "HandstandPushups/v_HandStandPushups_g01_c02"],
    )
    for path in (
        "Hammering/v_Hammering_g08_c01",
        "HandStandPushups/v_HandstandPushups_g08_c01",
        "HandStandPushups/v_HandStandPushups_g01_c02",
        "HammerThrow/v_HammerThrow_g01_c01",
    ):
        write_video(src / "UCF-101" / f"{path}.avi", frames=9)
    return src


def test_ids_are_official_and_case_on_disk_may_differ(quirky: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(PrepareOptions(dataset="ucf101", src=quirky, out=out, num_classes=3))
    assert (out / "label_map.txt").read_text().split() == ["HammerThrow", "Hammering", "HandstandPushups"]
    assert (out / "ucf101_train_split_1_rawframes.txt").read_text() == (
        "Hammering/v_Hammering_g08_c01 9 1\nHandstandPushups/v_HandStandPushups_g08_c01 9 2\n"
    )
    assert (out / "ucf101_train_split_1_videos.txt").read_text() == (
        "Hammering/v_Hammering_g08_c01.avi 1\nHandStandPushups/v_HandstandPushups_g08_c01.avi 2\n"
    )
    assert (out / "rawframes" / "HandstandPushups" / "v_HandStandPushups_g01_c02").is_dir()
    assert not (out / "ucf101_train_split_2_videos.txt").exists()


def test_the_published_class_list_of_65_names_is_rejected(quirky: Path, tmp_path: Path, shared: Path) -> None:
    published = json.loads((shared / "fixtures" / "paddle" / "ucf101_66.json").read_text())[
        "names_as_published"
    ]
    official = load_recipe("tsm_ucf101").labels()
    shutil.rmtree(quirky / "ucfTrainTestlist")
    write_lists(
        quirky / "annotations",
        list(official),
        ["Knitting/v_Knitting_g08_c01"],
        ["HammerThrow/v_HammerThrow_g01_c01"],
    )
    with pytest.raises(BadDataError, match=r"has 1 name.*66th class.*--class_list"):
        prepare(PrepareOptions(dataset="ucf101_66", src=quirky, out=tmp_path / "out"))
    names = tmp_path / "names.txt"
    names.write_text("\n".join(published))
    with pytest.raises(UsageError, match="65 classes, but 66 are expected"):
        prepare(PrepareOptions(dataset="ucf101_66", src=quirky, out=tmp_path / "out", class_list=names))
    out = tmp_path / "for_training"
    prepare(PrepareOptions(dataset="ucf101_66", src=quirky, out=out, class_list=names, num_classes=65))
    assert (out / "label_map.txt").read_text().splitlines() == published
    # Knitting is not a sport: it is not listed, and a split without videos has no list.
    number = published.index("HammerThrow")
    assert (out / "ucf101_66_val_split_1_rawframes.txt").read_text() == (
        f"HammerThrow/v_HammerThrow_g01_c01 9 {number}\n"
    )
    assert not (out / "ucf101_66_train_split_1_rawframes.txt").exists()


def test_a_class_list_overrides_the_classes(quirky: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("HandstandPushups\nHammering\n")
    out = tmp_path / "out"
    options = {"dataset": "ucf101_66", "src": quirky, "num_classes": 2, "class_list": names}
    prepare(PrepareOptions(**options, out=out))
    assert (out / "ucf101_66_train_split_1_rawframes.txt").read_text() == (
        "Hammering/v_Hammering_g08_c01 9 1\nHandstandPushups/v_HandStandPushups_g08_c01 9 0\n"
    )
    names.write_text("HandStandPushups\nHammering\n")
    with pytest.raises(BadDataError, match="1 name.* HandStandPushups. Names must match it exactly"):
        prepare(PrepareOptions(**options, out=tmp_path / "other"))
    names.write_text("Hammering\nHammering\n")
    with pytest.raises(BadDataError, match="twice"):
        prepare(PrepareOptions(**options, out=tmp_path / "other"))


def test_frames_shared_by_splits_are_extracted_once(quirky: Path, tmp_path: Path) -> None:
    videos = ["Hammering/v_Hammering_g08_c01"]
    shutil.rmtree(quirky / "ucfTrainTestlist")
    write_lists(quirky / "annotations", ["Hammering"], videos, videos, splits=(1, 2, 3))
    prepare(PrepareOptions(dataset="ucf101", src=quirky, out=tmp_path / "out", num_classes=1))
    frames = [name for name in tree(tmp_path / "out") if name.endswith(".jpg")]
    assert len(frames) == 9
    assert len(list((tmp_path / "out").glob("ucf101_*_split_*_rawframes.txt"))) == 6


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("classInd.txt", "1 A\n3 B\n", "numbered from 1"),
        ("classInd.txt", "A 1\n", "numbered from 1"),
        ("trainlist01.txt", "Hammering/v_Hammering_g08_c01.avi 1\n", "classInd.txt gives 2"),
        ("trainlist01.txt", "../Hammering/v_Hammering_g08_c01.avi 2\n", "expected `CLASS/VIDEO.avi"),
        ("trainlist01.txt", "../v.avi\n", "expected `CLASS/VIDEO.avi"),
        ("testlist01.txt", "Knitting/v_Knitting_g01_c01.avi\n", "expected `CLASS/VIDEO.avi"),
    ],
)
def test_inconsistent_lists_are_rejected(
    quirky: Path, tmp_path: Path, file: str, text: str, message: str
) -> None:
    (quirky / "ucfTrainTestlist" / file).write_text(text)
    with pytest.raises(BadDataError, match=message):
        prepare(PrepareOptions(dataset="ucf101", src=quirky, out=tmp_path / "out", num_classes=3))


def test_missing_files_are_reported(tmp_path: Path, quirky: Path) -> None:
    with pytest.raises(UsageError, match=r"lacks classInd\.txt"):
        prepare(PrepareOptions(dataset="ucf101", src=tmp_path, out=tmp_path / "out"))
    for path in (quirky / "ucfTrainTestlist").glob("t*list*.txt"):
        path.unlink()
    with pytest.raises(UsageError, match=r"lacks trainlist01\.txt"):
        prepare(PrepareOptions(dataset="ucf101", src=quirky, out=tmp_path / "out", num_classes=3))


def test_the_lists_can_be_packed(quirky: Path, tmp_path: Path, tiny_recipe: Path) -> None:
    out = tmp_path / "out"
    main(
        [
            "--dataset",
            "ucf101",
            "--src",
            str(quirky),
            "--out",
            str(out),
            "--num_classes",
            "3",
            "--workers",
            "1",
        ]
    )
    overrides = ["dataset.num_classes=3", f"dataset.labels={out / 'label_map.txt'}"]
    store = packed_by_one(
        recipe=load_recipe(str(tiny_recipe), overrides),
        data_root=out / "rawframes",
        ann_file=out / "ucf101_val_split_1_rawframes.txt",
        output_dir=tmp_path / "store",
    )
    assert [(sample.id, sample.label) for sample in store.samples.values()] == [
        ("HammerThrow/v_HammerThrow_g01_c01", 0),
        ("HandstandPushups/v_HandStandPushups_g01_c02", 2),
    ]
