"""Data sets with one fault of every kind, and valid ones without any."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_videos import cut, write_video, write_without_frames

from preprocess.audit import AuditOptions, audit, main
from vidom.errors import BadDataError, UsageError
from vidom.formats.recipe import load_recipe


def write_frames(folder: Path, numbers: list[int], *, size: tuple[int, int] = (32, 24)) -> Path:
    folder.mkdir(parents=True)
    image = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    for number in numbers:
        cv2.imwrite(str(folder / f"img_{number:05}.jpg"), image)
    return folder


@pytest.fixture
def frames(tmp_path: Path) -> tuple[Path, Path]:
    """(data root, list) of folders of frames; the name says what is wrong."""
    root = tmp_path / "frames"
    write_frames(root / "valid", list(range(1, 11)))
    write_frames(root / "gap", [1, 2, 3, 5, 6, 8, 9, 10])
    write_frames(root / "from_zero", list(range(0, 10)))
    write_frames(root / "fewer", list(range(1, 9)))
    write_frames(root / "surplus", list(range(1, 13)))
    write_frames(root / "short", [1, 2, 3])
    (root / "empty").mkdir()
    damaged = write_frames(root / "damaged", list(range(1, 11)))
    cut(damaged / "img_00004.jpg")
    (damaged / "img_00006.jpg").write_bytes(b"no jpeg at all")
    (damaged / "img_00009.jpg").write_bytes(b"")
    uneven = write_frames(root / "uneven", list(range(1, 10)))
    write_frames(root / "tmp", [10], size=(40, 24))
    (root / "tmp" / "img_00010.jpg").rename(uneven / "img_00010.jpg")
    write_frames(root / "a name.v1", list(range(1, 11)))
    names = (
        "valid",
        "gap",
        "from_zero",
        "fewer",
        "surplus",
        "empty",
        "damaged",
        "uneven",
        "a name.v1",
        "absent",
    )
    lines = [f"{name} 10 0" for name in names]
    lines += ["short 3 0", "valid 10 1", "damaged 10 7", "../frames/valid 10 0", "valid ten 0"]
    ann = tmp_path / "list.txt"
    ann.write_text("\n".join(lines) + "\n")
    return root, ann


def kinds(result) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for problem in result.problems:
        found.setdefault(f"{problem.line} {problem.id}", set()).add(problem.kind)
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_every_kind_of_fault_in_frames(frames: tuple[Path, Path], tmp_path: Path, workers: int) -> None:
    root, ann = frames
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\n")
    result = audit(AuditOptions(ann_file=ann, data_root=root, labels=labels, workers=workers))
    assert kinds(result) == {
        "2 gap": {"gap"},
        "4 fewer": {"fewer_frames"},
        "5 surplus": {"surplus_frames"},
        "6 empty": {"fewer_frames", "zero_length"},
        "7 damaged": {"unreadable", "zero_length"},
        "8 uneven": {"uneven_size"},
        "9 a name.v1": {"awkward_name"},
        "10 absent": {"missing"},
        "11 short": {"too_short"},
        "12 valid": {"duplicate_id"},
        "13 damaged": {"duplicate_id", "label_outside_classes", "unreadable", "zero_length"},
        "14 ../frames/valid": {"outside_data_root"},
        "15 valid ten 0": {"malformed_line"},
    }
    texts = {(problem.line, problem.kind): problem.text for problem in result.problems}
    assert "missing in between: 4, 7" in texts[2, "gap"]
    assert texts[7, "unreadable"].endswith("img_00004.jpg, img_00006.jpg")
    assert texts[7, "zero_length"].endswith("img_00009.jpg")
    assert texts[8, "uneven_size"].endswith("img_00010.jpg")
    # Valid are the first line, the one from zero, and those with warnings only: a surplus, a name, a short one.
    assert result.summary.startswith(f"5 of 15 samples of {ann} are valid.\n")


def test_frames_named_differently_are_checked_with_their_recipe(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "a", list(range(1, 11)))
    for path in sorted(folder.iterdir()):
        path.rename(folder / path.name.removeprefix("img_"))
    (tmp_path / "list.txt").write_text("a 10 0\n")
    options = AuditOptions(ann_file=tmp_path / "list.txt", data_root=tmp_path)
    assert any("dataset.frame_template" in problem.text for problem in audit(options).problems)
    recipe = load_recipe("tsm_demo", ["dataset.frame_template={:05}.jpg"])
    assert audit(replace(options, recipe=recipe)).problems == ()


def test_what_packing_refuses_is_a_fault(tmp_path: Path) -> None:
    """Frames 0 to 10 and a list of 10: either end could be the surplus one."""
    write_frames(tmp_path / "a", list(range(11)))
    (tmp_path / "list.txt").write_text("a 10 0\n")
    result = audit(AuditOptions(ann_file=tmp_path / "list.txt", data_root=tmp_path))
    assert kinds(result) == {"1 a": {"unreadable"}}
    assert len(result.faults) == 1


def test_a_list_of_the_other_kind_is_named_as_such(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames", list(range(1, 11)))
    write_video(tmp_path / "video.mp4", frames=9)
    texts = []
    for text in ("frames 0\n", "video.mp4 9 0\n"):
        (tmp_path / "list.txt").write_text(text)
        result = audit(AuditOptions(ann_file=tmp_path / "list.txt", data_root=tmp_path))
        texts += [problem.text for problem in result.faults if problem.kind == "missing"]
    assert "frames is a folder. A list of folders of frames has" in texts[0]
    assert "video.mp4 is a file, but the list declares 9 frames" in texts[1]


def test_names_in_the_summary_do_not_command_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("absent\x1b[2J.mp4 0\n")
    result = audit(AuditOptions(ann_file=tmp_path / "list.txt", data_root=tmp_path))
    assert r"absent\x1b[2J.mp4" in result.summary
    assert result.summary.replace("\n", "").isprintable()


def test_every_kind_of_fault_in_videos(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    write_video(root / "valid.mp4", frames=9)
    write_video(root / "air drumming" / "valid.webm", frames=9)
    write_video(root / "short.avi", frames=3)
    cut(write_video(root / "damaged.webm", frames=9))
    write_without_frames(root / "none.webm")
    (root / "empty.mp4").touch()
    (root / "text.mp4").write_text("no video")
    names = [
        "valid.mp4",
        "air drumming/valid.webm",
        "short.avi",
        "damaged.webm",
        "none.webm",
        "empty.mp4",
        "text.mp4",
    ]
    ann = tmp_path / "list.txt"
    ann.write_text("".join(f"{name} {number}\n" for number, name in enumerate([*names, "absent.mp4"])))
    result = audit(AuditOptions(ann_file=ann, data_root=root))
    assert kinds(result) == {
        "2 air drumming/valid.webm": {"awkward_name"},
        "3 short.avi": {"too_short"},
        "4 damaged.webm": {"unreadable"},
        "5 none.webm": {"unreadable"},
        "6 empty.mp4": {"zero_length"},
        "7 text.mp4": {"unreadable"},
        "8 absent.mp4": {"missing"},
    }


def test_parts_of_a_folder_are_not_gaps(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "long", list(range(1, 31)))
    (tmp_path / "list.txt").write_text("long 0 15 0\nlong 15 15 1\nlong 20 15 1\n")
    cut(folder / "img_00030.jpg")
    assert kinds(audit(AuditOptions(ann_file=tmp_path / "list.txt", data_root=tmp_path))) == {
        "2 long@15": {"unreadable"},
        "3 long@20": {"fewer_frames", "unreadable"},
    }


def test_the_report_and_the_exit_code(
    frames: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, ann = frames
    report = tmp_path / "deep" / "audit.json"
    arguments = ["--ann-file", str(ann), "--data-root", str(root), "--report", str(report), "--workers", "1"]
    assert main(arguments) == 1
    document = json.loads(report.read_text())
    assert document["samples"] == 15
    assert document["faults"] + document["warnings"] == len(document["problems"])
    assert document["by_kind"]["duplicate_id"] == 2
    lines = [problem["line"] for problem in document["problems"]]
    assert lines == sorted(lines)
    assert {problem["severity"] for problem in document["problems"] if problem["kind"] == "too_short"} == {
        "warning"
    }
    assert "fault    duplicate_id                  2" in capsys.readouterr().out
    ann.write_text("valid 10 0\nshort 3 0\n")
    assert main(arguments) == 0
    assert "2 of 2 samples" in capsys.readouterr().out


def test_the_command_exits_with_1_for_faults(frames: tuple[Path, Path]) -> None:
    root, ann = frames
    script = Path(__file__).parents[2] / "preprocess" / "audit.py"
    command = [
        sys.executable,
        str(script),
        "--ann_file",
        str(ann),
        "--data_root",
        str(root),
        "--workers",
        "1",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stdout.startswith("5 of 15 samples")


def test_the_real_frames_and_videos_have_no_problems(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "rawframes_short256"
    counts = {path.name: len(list(path.glob("img_*.jpg"))) for path in folder.iterdir()}
    (tmp_path / "frames.txt").write_text("".join(f"{name} {count} 0\n" for name, count in counts.items()))
    assert audit(AuditOptions(ann_file=tmp_path / "frames.txt", data_root=folder)).problems == ()
    videos = shared / "data" / "videos"
    (tmp_path / "videos.txt").write_text("part_0.mp4 0\ntest.avi 1\n")
    assert audit(AuditOptions(ann_file=tmp_path / "videos.txt", data_root=videos)).problems == ()


def test_invalid_input_is_rejected(tmp_path: Path, frames: tuple[Path, Path]) -> None:
    root, ann = frames
    with pytest.raises(UsageError, match="not a folder"):
        audit(AuditOptions(ann_file=ann, data_root=root / "absent"))
    with pytest.raises(UsageError, match="at least 1"):
        audit(AuditOptions(ann_file=ann, data_root=root, min_frames=0))
    with pytest.raises(BadDataError, match="does not exist"):
        audit(AuditOptions(ann_file=tmp_path / "absent.txt", data_root=root))
    (tmp_path / "empty.txt").touch()
    with pytest.raises(BadDataError, match="is empty"):
        audit(AuditOptions(ann_file=tmp_path / "empty.txt", data_root=root))
