"""Lists of annotated videos: what is read, and how faults are reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from preprocess.datasets.annotations import Annotation, read_annotations
from preprocess.sources.frames import RawFrames
from preprocess.sources.video import VideoFile
from preprocess.tensors.samples import open_source
from vidom.errors import BadDataError
from vidom.formats.frame_naming import FrameNaming


@pytest.fixture
def listed(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "list.txt"
        path.write_bytes(text.encode())
        return path

    return write


def message_of(path: Path, **options) -> str:
    with pytest.raises(BadDataError) as caught:
        read_annotations(path, **options)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_frame_folders(listed) -> None:
    annotations = read_annotations(listed("78687 45 1\r\nair drumming/a b  300 12\n\n2/3 0 0\n"))
    assert annotations == (
        Annotation("78687", "78687", 45, 1),
        Annotation("air drumming/a b", "air drumming/a b", 300, 12),
        Annotation("2/3", "2/3", 0, 0),
    )


def test_video_files(listed) -> None:
    assert read_annotations(listed("78687.webm 1\nmy clip 3.mp4\t0\n")) == (
        Annotation("78687.webm", "78687.webm", None, 1),
        Annotation("my clip 3.mp4", "my clip 3.mp4", None, 0),
    )


def test_parts_of_a_folder_are_separate_samples(listed) -> None:
    annotations = read_annotations(listed("long 0 40 3\nlong 40 60 2\n"))
    assert [(a.id, a.path, a.offset, a.total_frames, a.label) for a in annotations] == [
        ("long@0", "long", 0, 40, 3),
        ("long@40", "long", 40, 60, 2),
    ]


def test_an_explicit_kind_decides_the_meaning_of_numbers(listed) -> None:
    path = listed("level 5 300 1\n")
    assert read_annotations(path)[0] == Annotation("level@5", "level", 300, 1, offset=5)
    assert read_annotations(path, kind="rawframes")[0] == Annotation("level 5", "level 5", 300, 1)
    assert read_annotations(path, kind="videos")[0] == Annotation("level 5 300", "level 5 300", None, 1)


@pytest.mark.parametrize("name", ["sthv2", "ucf101", "kinetics400"])
def test_lists_written_by_the_original_tools(shared: Path, name: str) -> None:
    lists = sorted((shared / "fixtures" / "mmaction2" / "annotations" / name).rglob("*_list*rawframes.txt"))
    lists += sorted(
        (shared / "fixtures" / "mmaction2" / "annotations" / name).rglob("*_split_*_rawframes.txt")
    )
    assert lists
    for path in lists:
        for annotation, line in zip(read_annotations(path), path.read_text().splitlines(), strict=True):
            assert f"{annotation.path} {annotation.total_frames} {annotation.label}" == line


def test_all_faults_are_reported_at_once(listed) -> None:
    path = listed(
        "a 10 1\nb ten 1\nc 10 174\n/etc 10 1\n../d 10 1\ne/../../f 10 1\na 12 3\ng 10 -1\n10 1\nh 10 173\n"
    )
    message = message_of(path, num_classes=174)
    assert "has 8 faulty line(s) of 10" in message
    for fault in (
        "line 2: 'b ten 1': expected a name and 2 integer(s)",
        "line 3: 'c 10 174': label 174, but the recipe has the classes 0 to 173",
        "line 4: '/etc 10 1': the path leaves the data root",
        "line 5: '../d 10 1': the path leaves",
        "line 6: 'e/../../f 10 1': the path leaves",
        "line 7: 'a 12 3': the same sample as in line 1",
        "line 8: 'g 10 -1': expected",
        "line 9: '10 1': expected",
    ):
        assert fault in message


def test_only_the_first_ten_faults_are_shown(listed) -> None:
    message = message_of(listed("".join(f"v{number} 1 {number}\n" for number in range(30))), num_classes=5)
    assert "line 6:" in message
    assert "line 15:" in message
    assert "line 16:" not in message
    assert "and 15 more" in message


@pytest.mark.parametrize("text", ["", "\n \n", "x\n", "x 1e3 2\n", f"x 1 {'9' * 5000}\n"])
def test_invalid_lists_are_rejected(listed, text: str) -> None:
    message_of(listed(text), kind="rawframes")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path, encoding: str) -> None:
    lines = ["a.mp4 0\r\n".encode(encoding), "b.mp4 1\r\n".encode(encoding)]
    (tmp_path / "list.txt").write_bytes(b"".join(lines))  # as `type a.txt b.txt > list.txt` does
    assert [one.path for one in read_annotations(tmp_path / "list.txt")] == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize(("encoding", "named"), [("gbk", "GB18030"), ("utf-16", "UTF-16")])
def test_a_list_in_another_encoding_is_named_as_such(tmp_path: Path, encoding: str, named: str) -> None:
    (tmp_path / "list.txt").write_bytes("打篮球/视频.mp4 0\n".encode(encoding))
    assert f"iconv -f {named} -t UTF-8" in message_of(tmp_path / "list.txt")


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([{"filename": "a.mp4", "label": 3}], Annotation("a.mp4", "a.mp4", None, 3)),
        ([{"filename": "a.mp4", "label": [3]}], Annotation("a.mp4", "a.mp4", None, 3)),
        ([{"frame_dir": "a", "total_frames": 40, "label": 3}], Annotation("a", "a", 40, 3)),
        (
            [{"frame_dir": "a", "offset": 5, "total_frames": 40, "label": 3}],
            Annotation("a@5", "a", 40, 3, offset=5),
        ),
    ],
)
@pytest.mark.parametrize("suffix", ["json", "JSON"])
def test_json_lists_of_mmaction2_are_read(
    tmp_path: Path, entries: list[dict], expected: Annotation, suffix: str
) -> None:
    path = tmp_path / f"list.{suffix}"
    path.write_text(json.dumps(entries))
    assert read_annotations(path) == (expected,)


def test_an_offset_in_a_later_entry_of_a_json_list_counts(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    parts = [{"frame_dir": "a", "total_frames": 40, "label": 3}]
    path.write_text(json.dumps([*parts, {**parts[0], "frame_dir": "b", "offset": 7}]))
    assert [(one.path, one.offset) for one in read_annotations(path)] == [("a", 0), ("b", 7)]


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([], "not empty"),
        ({"a": 1}, "array"),
        ([1], "keys none"),
        ([{"video": "a"}], "keys video"),
        ([{"filename": "a.mp4", "label": 1}, 5], "not an object"),
        ([{"filename": "a.mp4", "label": [1, 2]}], "several labels"),
        ([{"filename": "a.mp4", "label": True}], "integers"),
        ([{"filename": "a.mp4", "label": -1}], "integers"),
        ([{"filename": "a.mp4", "label": 1.0}], "integers"),
        ([{"filename": 5, "label": 1}], 'no "filename"'),
        ([{"frame_dir": "a", "label": 1}], "total_frames, label"),
        ([{"filename": "a.mp4", "onehot": [0, 1]}], "one-hot labels are not read"),
        ([{"frame_dir": "a", "total_frames": 4, "onehot": [0, 1]}], "one-hot labels are not read"),
        ([{"filename": "../a.mp4", "label": 1}], "leaves the data root"),
        ([{"filename": "a\0.mp4", "label": 1}], "null character"),
        ([{"filename": "\ud800.mp4", "label": 1}], "not Unicode"),
        ([{"filename": "字" * 90, "label": 1}], "too long"),
        ([{"filename": "a/" * 1500, "label": 1}], "too long"),
    ],
)
def test_other_json_is_rejected(tmp_path: Path, entries: object, reason: str) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps(entries))
    assert reason in message_of(path)


def test_an_absent_or_binary_list_is_rejected(tmp_path: Path) -> None:
    assert "does not exist" in message_of(tmp_path / "absent.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xd8\xff\x00")
    assert "not UTF-8" in message_of(tmp_path / "binary")


def test_sources_are_opened_by_their_annotation(tmp_path: Path) -> None:
    naming = FrameNaming("{:05}.jpg")
    frames = open_source(Annotation("a@7", "a", 30, 1, offset=7), data_root=tmp_path, naming=naming)
    assert frames == RawFrames(tmp_path / "a", 30, naming, offset=7)
    assert frames.first_index == 8
    video = open_source(Annotation("b.mp4", "b.mp4", None, 1), data_root=tmp_path)
    assert isinstance(video, VideoFile)
    assert video.name == str(tmp_path / "b.mp4")
