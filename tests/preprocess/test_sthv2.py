"""Something-Something V2 in miniature: official JSON, real WebM, the multi-part archive."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
from packing import packed_by_one
from small_videos import cut, tree, write_video

from preprocess.datasets.annotations import read_annotations
from preprocess.datasets.prepared import flip_pairs
from preprocess.prepare import PrepareOptions, main, prepare
from vidom.errors import BadDataError, UsageError
from vidom.formats.recipe import load_recipe

# What `wc -l` of the original frame folders gave when the reference lists were written.
FRAMES = {"78687": 45, "42326": 30, "74225": 62, "116154": 12}
LABELS = {
    "Pushing something from right to left": "2",
    "Dropping something": "1",
    "Pushing something from left to right": "0",
}


def write_annotations(src: Path, *, train: list[dict], validation: list[dict], labels: dict = LABELS) -> None:
    folder = src / "annotations"
    folder.mkdir(parents=True)
    for name, document in (("labels", labels), ("train", train), ("validation", validation)):
        (folder / f"something-something-v2-{name}.json").write_text(json.dumps(document))


@pytest.fixture
def miniature(tmp_path: Path) -> Path:
    """Three classes, five labelled videos in both splits, and one of the unlabelled test set."""
    src = tmp_path / "src"
    template = {"0": "Pushing [something] from left to right", "1": "Dropping [something]"}
    train = [{"id": str(number), "template": template[str(number % 2)]} for number in (10, 9, 100)]
    validation = [{"id": str(number), "template": template[str(number % 2)]} for number in (8, 7)]
    write_annotations(src, train=train, validation=validation)
    for number in (10, 9, 100, 8, 7, 555):
        write_video(src / "videos" / f"{number}.webm", frames=6 + number % 5, seed=number)
    return src


def split_archive(src: Path, folder: Path, *, parts: int = 3) -> None:
    """Put the videos into 20bn-something-something-v2-00 and so on, as they are published."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(src / "videos", arcname="20bn-something-something-v2")
    content = buffer.getvalue()
    size = -(-len(content) // parts)
    for number in range(parts):
        part = content[number * size : (number + 1) * size]
        (folder / f"20bn-something-something-v2-{number:02}").write_bytes(part)


def test_the_lists_match_the_original_tool(shared: Path, tmp_path: Path) -> None:
    reference = shared / "fixtures" / "mmaction2" / "annotations" / "sthv2"
    shutil.copytree(reference / "annotations", tmp_path / "src" / "annotations")
    for name, frames in FRAMES.items():
        write_video(tmp_path / "src" / "videos" / f"{name}.webm", frames=frames)
    out = tmp_path / "out"
    splits = prepare(
        PrepareOptions(dataset="sthv2", src=tmp_path / "src", out=out, num_classes=3, on_bad="skip")
    )
    lists = sorted(reference.glob("sthv2_*.txt"))
    assert len(lists) == 3
    for path in lists:
        assert (out / path.name).read_text() == path.read_text()
    assert (out / "sthv2_train_list_videos.txt").read_text() == "78687.webm 1\n42326.webm 0\n"
    assert splits[1].summary == "val: 2 of 3 videos (1 missing, 0 unreadable)"
    assert [excluded.name for excluded in splits[1].excluded] == ["999"]


def test_a_missing_video_fails_unless_it_may_be_skipped(miniature: Path, tmp_path: Path) -> None:
    (miniature / "videos" / "9.webm").unlink()
    with pytest.raises(BadDataError, match=r"1 of the 3 videos of train .*: 9\. .*--on_bad skip"):
        prepare(PrepareOptions(dataset="sthv2", src=miniature, out=tmp_path / "out", num_classes=3))
    assert not (tmp_path / "out").exists()


def test_an_unreadable_video_fails_or_is_listed(miniature: Path, tmp_path: Path) -> None:
    cut(miniature / "videos" / "100.webm")
    with pytest.raises(BadDataError, match=r"100\.webm is truncated.*--on_bad skip"):
        prepare(PrepareOptions(dataset="sthv2", src=miniature, out=tmp_path / "out", num_classes=3))
    train, _ = prepare(
        PrepareOptions(dataset="sthv2", src=miniature, out=tmp_path / "out", num_classes=3, on_bad="skip")
    )
    assert train.summary == "train: 2 of 3 videos (0 missing, 1 unreadable)"
    record = json.loads((tmp_path / "out" / "preparation.json").read_text())
    (excluded,) = record["splits"][0]["excluded"]
    assert excluded["name"] == "100"
    assert "truncated" in excluded["reason"]
    assert (record["splits"][0]["annotated"], record["splits"][0]["listed"]) == (3, 2)
    # After the fix the same command packs it.
    write_video(miniature / "videos" / "100.webm", frames=6, seed=100)
    train, _ = prepare(PrepareOptions(dataset="sthv2", src=miniature, out=tmp_path / "out", num_classes=3))
    assert train.summary == "train: 3 of 3 videos (0 missing, 0 unreadable)"


def test_class_names_are_in_id_order(miniature: Path, tmp_path: Path) -> None:
    prepare(PrepareOptions(dataset="sthv2", src=miniature, out=tmp_path / "out", num_classes=3))
    names = (tmp_path / "out" / "label_map.txt").read_text().splitlines()
    assert names == sorted(LABELS, key=lambda name: int(LABELS[name]))
    (pair,) = json.loads((tmp_path / "out" / "flip_pairs.json").read_text())
    assert pair["ids"] == [0, 2]
    assert pair["names"] == [names[0], names[2]]


def test_mirrored_classes_of_the_real_label_file() -> None:
    # flip_label_map of mmaction2's configs/_base_/... for sthv2: {86: 87, 93: 94, 166: 167} and back.
    assert flip_pairs(load_recipe("tsm_sthv2").labels()) == ((86, 87), (93, 94), (166, 167))
    assert flip_pairs(("Left Hook", "putting it right side up", "Right Hook", "upright")) == ((0, 2),)


def test_the_multi_part_archive_gives_the_same_result(miniature: Path, tmp_path: Path) -> None:
    prepare(PrepareOptions(dataset="sthv2", src=miniature, out=tmp_path / "folder", num_classes=3))
    packed = tmp_path / "packed"
    shutil.copytree(miniature / "annotations", packed / "annotations")
    split_archive(miniature, packed)
    before = tree(packed)
    prepare(PrepareOptions(dataset="sthv2", src=packed, out=tmp_path / "streamed", num_classes=3))
    one, other = tree(tmp_path / "folder"), tree(tmp_path / "streamed")
    # The test set has no labels: its videos stay in the archive.
    assert sorted(name for name in other if name.endswith(".webm")) == [
        f"videos/{number}.webm" for number in (10, 100, 7, 8, 9)
    ]
    for name, content in one.items():
        if name != "preparation.json":
            assert other[name] == content, name
    assert tree(packed) == before


def test_an_archive_is_unpacked_once(
    miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_archive(miniature, tmp_path)
    shutil.copytree(miniature / "annotations", tmp_path / "annotations")
    prepare(PrepareOptions(dataset="sthv2", src=tmp_path, out=tmp_path / "out", num_classes=3))
    monkeypatch.setattr(
        "preprocess.datasets.archives.tar_members", lambda *_, **__: pytest.fail("read again")
    )
    prepare(PrepareOptions(dataset="sthv2", src=tmp_path, out=tmp_path / "out", num_classes=3))


def test_a_missing_part_is_reported(miniature: Path, tmp_path: Path) -> None:
    split_archive(miniature, miniature)
    shutil.rmtree(miniature / "videos")
    (miniature / "20bn-something-something-v2-01").unlink()
    with pytest.raises(BadDataError, match=r"part\(s\) 01 are missing"):
        prepare(PrepareOptions(dataset="sthv2", src=miniature, out=tmp_path / "out", num_classes=3))


def test_the_class_count_is_checked_against_the_checkpoint(miniature: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="3 classes, but 174 are expected"):
        prepare(PrepareOptions(dataset="sthv2", src=miniature, out=tmp_path / "out"))


@pytest.mark.parametrize(
    ("train", "labels", "message"),
    [
        ([{"id": "../7", "template": "Dropping [something]"}], LABELS, "plain name"),
        ([{"id": "7"}], LABELS, "`template`"),
        (["7"], LABELS, "Expected an object"),
        ([{"id": "7", "template": "Eating [something]"}], LABELS, "not a class of the labels file"),
        ([{"id": "7", "template": "A"}, {"id": "7", "template": "B"}], {"A": "0", "B": "1"}, "twice"),
        ([], {"A": "0", "B": "2"}, "0.*upwards"),
        ([], {"A": "x"}, "0.*upwards"),
        ([], [], "0.*upwards"),
        ({}, {"A": "0"}, "must be a list"),
    ],
)
def test_invalid_annotations_are_rejected(tmp_path: Path, train, labels, message: str) -> None:
    write_annotations(tmp_path, train=train, validation=[], labels=labels)
    write_video(tmp_path / "videos" / "7.webm", frames=2)
    with pytest.raises(BadDataError, match=message):
        prepare(PrepareOptions(dataset="sthv2", src=tmp_path, out=tmp_path / "out", num_classes=2))


@pytest.mark.parametrize("lacking", ["annotations", "videos"])
def test_missing_files_are_reported(miniature: Path, tmp_path: Path, lacking: str) -> None:
    shutil.rmtree(miniature / lacking)
    with pytest.raises(UsageError, match=r"labels\.json" if lacking == "annotations" else r"\*\.webm"):
        prepare(PrepareOptions(dataset="sthv2", src=miniature, out=tmp_path / "out", num_classes=3))


def test_the_command_prints_the_arguments_of_pack(
    miniature: Path, tmp_path: Path, tiny_recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["--dataset", "sthv2", "--src", str(miniature), "--out", str(out), "--num-classes", "3"]
    main([*arguments, "--workers", "1"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[2] == "val: 2 of 2 videos (0 missing, 0 unreadable)"
    ann_file, option, data_root = printed[3].split()
    assert option == "--data_root"
    overrides = ["dataset.num_classes=3", f"dataset.labels={out / 'label_map.txt'}"]
    recipe = load_recipe(str(tiny_recipe), overrides)
    from_frames = packed_by_one(
        recipe=recipe, data_root=Path(data_root), ann_file=Path(ann_file), output_dir=tmp_path / "frames"
    )
    listed = read_annotations(ann_file)
    assert [(sample.id, sample.label) for sample in from_frames.samples.values()] == [
        (annotation.id, annotation.label) for annotation in listed
    ]
    videos = out / "sthv2_val_list_videos.txt"
    from_videos = packed_by_one(
        recipe=recipe, data_root=miniature / "videos", ann_file=videos, output_dir=tmp_path / "videos"
    )
    labels = [sample.label for sample in from_frames.samples.values()]
    assert [sample.label for sample in from_videos.samples.values()] == labels == [0, 1]
