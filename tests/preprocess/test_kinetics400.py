"""Kinetics-400 in miniature: official CSV, spaces and parentheses, missing and unreadable clips, StNet's packs."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from packing import packed_by_one
from small_videos import cut, tree, write_video, write_without_frames

from preprocess.datasets.kinetics400 import locate_kinetics400
from preprocess.datasets.sample_list import read_pack_annotations
from preprocess.datasets.splits import Source
from preprocess.prepare import PrepareOptions, main, prepare
from preprocess.sources.frame_pack import read_frame_pack
from vidom.errors import BadDataError, UsageError
from vidom.formats.recipe import load_recipe, recipe_folder

HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"


def write_csv(src: Path, title: str, rows: list[tuple[str, str]]) -> None:
    """Write rows (label, youtube id) as the official files have them: quoted where needed, times 3 to 13."""
    (src / "annotations").mkdir(parents=True, exist_ok=True)
    with (src / "annotations" / f"kinetics_{title}.csv").open("w", newline="") as stream:
        stream.write(HEADER)
        csv.writer(stream).writerows((label, name, "3", "13", title, "0") for label, name in rows)


@pytest.fixture
def miniature(tmp_path: Path) -> Path:
    """Five classes; the val split has a truncated, a frameless, an empty and a missing clip."""
    src = tmp_path / "src"
    write_csv(
        src,
        "train",
        [
            ("zumba", "t0000000000"),
            ("air drumming", "t0000000001"),
            ("using remote controller (not gaming)", "t0000000002"),
            ("massaging person's head", "t0000000003"),
            ("abseiling", "-_00000000A"),
        ],
    )
    clips = ["v0000000000", "v_truncated", "v_frameless", "v_has_bytes", "v__vanished", "v0000000005"]
    labels = ["air drumming", "zumba", "zumba", "zumba", "zumba", "using remote controller (not gaming)"]
    write_csv(src, "val", list(zip(labels, clips, strict=True)))
    root = src / "videos_val"
    write_video(root / "air drumming" / "v0000000000_000003_000013.mp4", frames=10)
    cut(write_video(root / "zumba" / "v_truncated_000003_000013.mp4", frames=10))
    write_without_frames(root / "zumba" / "v_frameless_000003_000013.mkv")
    (root / "zumba" / "v_has_bytes_000003_000013.mp4").touch()
    write_video(
        root / "using_remote_controller_(not_gaming)" / "v0000000005_000003_000013.mp4",
        frames=7,
        size=(40, 64),
    )
    return src


def test_the_lists_match_the_original_tool(shared: Path, tmp_path: Path) -> None:
    reference = shared / "fixtures" / "mmaction2" / "annotations" / "kinetics400"
    shutil.copytree(reference / "annotations", tmp_path / "src" / "annotations")
    for path, frames in {
        "air_drumming/eeeeeeeeeee_000030_000040": 300,
        "zumba/fffffffffff_000001_000011": 250,
    }.items():
        write_video(tmp_path / "src" / "videos_val" / f"{path}.mp4", frames=frames)
    out = tmp_path / "out"
    prepare(PrepareOptions(dataset="kinetics400", src=tmp_path / "src", out=out, num_classes=4, short_side=0))
    lists = sorted(reference.glob("*.txt"))
    assert len(lists) == 2
    for path in lists:
        assert (out / path.name).read_text() == path.read_text()
    assert (out / "label_map.txt").read_text() == "abseiling\nair drumming\nplaying cards\nzumba\n"


def test_the_order_of_the_400_classes(shared: Path, tmp_path: Path) -> None:
    names = (shared / "data" / "stnet" / "label_map_k400_mmaction2.txt").read_text().splitlines()
    rows = [(label, f"id{number:09}") for number, label in enumerate(names[::-1])]
    write_csv(tmp_path, "train", rows)
    data = locate_kinetics400(Source(tmp_path, tmp_path))
    assert list(data.labels) == names
    mindspore = (shared / "data" / "stnet" / "kinetics400_label.txt").read_text().splitlines()
    assert [line.rsplit(" ", 1)[0] for line in mindspore] == names
    assert data.labels == load_recipe("tsm_k400").labels()


def test_missing_and_unreadable_clips_are_counted_and_listed(
    miniature: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    main(
        [
            "--dataset",
            "kinetics400",
            "--src",
            str(miniature),
            "--out",
            str(out),
            "--num_classes",
            "5",
            "--workers",
            "1",
        ]
    )
    printed = capsys.readouterr()
    assert printed.out.startswith("val: 2 of 6 videos (1 missing, 3 unreadable)\n")
    assert "train: none of its 5 videos" in printed.err
    (split,) = json.loads((out / "preparation.json").read_text())["splits"]
    assert (split["annotated"], split["listed"]) == (6, 2)
    reasons = {excluded["name"]: excluded["reason"] for excluded in split["excluded"]}
    assert {name: text for name, text in reasons.items() if "no such video" in text}.keys() == {
        "zumba/v__vanished_000003_000013"
    }
    assert "truncated" in reasons["zumba/v_truncated_000003_000013"]
    assert (out / "kinetics400_val_list_rawframes.txt").read_text() == (
        "air_drumming/v0000000000_000003_000013 10 1\n"
        "using_remote_controller_(not_gaming)/v0000000005_000003_000013 7 3\n"
    )
    assert (out / "kinetics400_val_list_videos.txt").read_text() == (
        "air drumming/v0000000000_000003_000013.mp4 1\n"
        "using_remote_controller_(not_gaming)/v0000000005_000003_000013.mp4 3\n"
    )
    assert not (out / "kinetics400_train_list_rawframes.txt").exists()


def test_missing_clips_can_be_an_error(miniature: Path, tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match="1 of the 6 videos of val .*v__vanished"):
        prepare(
            PrepareOptions(
                dataset="kinetics400", src=miniature, out=tmp_path / "out", num_classes=5, on_bad="fail"
            )
        )


def test_both_lists_can_be_packed(miniature: Path, tmp_path: Path, tiny_recipe: Path) -> None:
    out = tmp_path / "out"
    (split,) = prepare(
        PrepareOptions(dataset="kinetics400", src=miniature, out=out, num_classes=5, short_side=32)
    )
    overrides = ["dataset.num_classes=5", f"dataset.labels={out / 'label_map.txt'}"]
    recipe = load_recipe(str(tiny_recipe), overrides)
    for kind, root in (("rawframes", split.frame_root), ("videos", miniature / "videos_val")):
        store = packed_by_one(
            recipe=recipe,
            data_root=root,
            ann_file=out / f"kinetics400_val_list_{kind}.txt",
            output_dir=tmp_path / kind,
        )
        assert [sample.label for sample in store.samples.values()] == [1, 3]


def test_packs_are_in_the_format_of_stnet(miniature: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = {"dataset": "kinetics400", "src": miniature, "out": out, "num_classes": 5, "short_side": 32}
    prepare(PrepareOptions(**options, packs=True))
    name = "v0000000005_000003_000013"
    annotations = read_pack_annotations(
        out / "packs" / "val.json", data_root=out / "packs", folder="val", num_classes=5
    )
    assert [(annotation.id, annotation.label) for annotation in annotations] == [
        ("v0000000000_000003_000013", 1),
        (name, 3),
    ]
    packed = read_frame_pack(out / "packs" / "val" / f"{name}.pkl")
    folder = out / "rawframes_val" / "using_remote_controller_(not_gaming)" / name
    assert (packed.name, packed.label) == (f"./{name}", 3)
    assert list(packed.frames) == [(folder / f"img_{number:05}.jpg").read_bytes() for number in range(1, 8)]
    before = tree(out)
    (out / "packs" / "val" / f"{name}.pkl").unlink()
    prepare(PrepareOptions(**options, packs=True))
    assert tree(out) == before


def test_a_clip_in_two_classes_cannot_be_packed(miniature: Path, tmp_path: Path) -> None:
    write_csv(miniature, "val", [("zumba", "v0000000000"), ("air drumming", "v0000000000")])
    root = miniature / "videos_val"
    shutil.copy(root / "air drumming" / "v0000000000_000003_000013.mp4", root / "zumba")
    with pytest.raises(BadDataError, match="in two classes"):
        prepare(
            PrepareOptions(
                dataset="kinetics400", src=miniature, out=tmp_path / "out", num_classes=5, packs=True
            )
        )


@pytest.mark.parametrize("folder", ["val/{label}", "val/{folder}", "validate", "{label}", "."])
def test_clips_are_found_in_every_layout_of_the_downloaders(tmp_path: Path, folder: str) -> None:
    write_csv(tmp_path, "train", [("air drumming", "a")])
    write_csv(tmp_path, "val", [("air drumming", "v")])
    place = folder.format(label="air drumming", folder="air_drumming")
    write_video(tmp_path / place / "v_000003_000013.mp4", frames=2)
    (split,) = prepare(
        PrepareOptions(dataset="kinetics400", src=tmp_path, out=tmp_path / "out", num_classes=1, short_side=0)
    )
    ((entry, frames),) = split.entries
    assert (entry.name, frames) == ("air_drumming/v_000003_000013", 2)
    assert entry.video is not None
    assert (split.split.video_root / entry.video).is_file()


def test_validation_alone_needs_a_class_list(miniature: Path, tmp_path: Path) -> None:
    (miniature / "annotations" / "kinetics_train.csv").unlink()
    with pytest.raises(UsageError, match="--class_list"):
        prepare(PrepareOptions(dataset="kinetics400", src=miniature, out=tmp_path / "out"))
    names = recipe_folder() / "labels" / "k400.txt"
    prepare(
        PrepareOptions(
            dataset="kinetics400", src=miniature, out=tmp_path / "out", class_list=names, short_side=0
        )
    )
    first = (tmp_path / "out" / "kinetics400_val_list_rawframes.txt").read_text().splitlines()[0]
    assert (
        first
        == f"air_drumming/v0000000000_000003_000013 10 {names.read_text().splitlines().index('air drumming')}"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,youtube_id\nzumba,a\n", r"lacks the column\(s\) time_end, time_start"),
        (HEADER + ",ggggggggggg,5,15,test,0\n", "Line 2"),
        (HEADER + "zumba,../../etc,5,15,val,0\n", "Line 2"),
        (HEADER + "zumba,a,5,later,val,0\n", "Line 2"),
        (HEADER + "zumba,a,1e9,2,val,0\n", "Line 2"),
        (HEADER + "../zumba,a,5,15,val,0\n", "Line 2"),
        (HEADER + "..,a,5,15,val,0\n", "Line 2"),
        (HEADER + "knitting,a,5,15,val,0\n", "not one of the 5 classes"),
        (HEADER + "zumba\n", "Line 2"),
        (HEADER + '"' + "z" * 200_000 + '",a,1,2,val,0\n', "not CSV"),
    ],
)
def test_invalid_rows_are_rejected(miniature: Path, tmp_path: Path, text: str, message: str) -> None:
    (miniature / "annotations" / "kinetics_val.csv").write_text(text)
    with pytest.raises(BadDataError, match=message):
        prepare(PrepareOptions(dataset="kinetics400", src=miniature, out=tmp_path / "out", num_classes=5))


@pytest.mark.slow
def test_real_clips_get_the_labels_and_frames_of_mindspore(shared: Path, tmp_path: Path) -> None:
    data = shared / "data" / "stnet"
    src, out = tmp_path / "src", tmp_path / "out"
    src.mkdir()
    (src / "kinetics-400_train.csv").symlink_to(data / "kinetics-400_train.csv")
    (src / "train").symlink_to(data / "mp4")
    (split,) = prepare(PrepareOptions(dataset="kinetics400", src=src, out=out, short_side=0, packs=True))
    assert (out / "label_map.txt").read_text() == (
        data / "label_map_k400_mmaction2.txt"
    ).read_text().rstrip() + "\n"
    info = json.loads((shared / "fixtures" / "mindspore" / "pkl_info.json").read_text())
    seen = {Path(entry.name).name: (entry.label, frames) for entry, frames in split.entries}
    truth = {
        name: (facts["label"], facts["cv2_decoded"])
        for name, facts in info.items()
        if isinstance(facts, dict) and "cv2_decoded" in facts
    }
    assert len(truth) >= 12
    assert {name: seen[name] for name in truth} == truth
    # video2pkl.py wrote an empty pack for this one: its folder's name has a space.
    assert read_frame_pack(out / "packs" / "train" / "space0320240_000009_000019.pkl").label == 1
