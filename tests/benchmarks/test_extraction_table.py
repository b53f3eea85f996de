"""The table of extraction speeds: what is counted, and that it ends as its verdict says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.extraction import ExtractionRow, ExtractionTable, extraction, main
from vidom.errors import UsageError


def write_video(path: Path, frames: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for number in range(frames):
            picture = np.full((24, 32, 3), number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two workers need two cores")
def test_every_way_takes_its_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos, work = tmp_path / "videos", tmp_path / "work"
    for folder in (videos, work):
        folder.mkdir()
    for number in range(4):
        write_video(videos / f"{number}.mp4", 5 + number)
    output = tmp_path / "table.json"
    arguments = ["--videos", str(videos), "--rounds", "1", "--output", str(output), "--work", str(work)]
    code = main(arguments)
    printed = capsys.readouterr().out.splitlines()
    document = json.loads(output.read_text())
    assert (document["videos"], document["frames"]) == (4, 26)
    assert [(row["way"], row["clock"], row["bar"]) for row in document["rows"]] == [
        ("plain cv2", "CPU", None),
        ("opencv", "CPU", 1.0),
        ("pyav", "CPU", None),
        ("plain cv2", "wall", None),
        ("opencv, 2 workers", "wall", 1.8),
    ]
    for row in document["rows"]:
        (plain,) = (r for r in document["rows"] if r["way"] == "plain cv2" and r["clock"] == row["clock"])
        assert row["ratio"] == pytest.approx(row["frames_per_second"] / plain["frames_per_second"])
    missed = any(row["bar"] and row["ratio"] < row["bar"] for row in document["rows"])
    assert (code, printed[-1]) == ((1, "FAILED") if missed else (0, "PASSED"))
    assert len([line for line in printed if line.startswith("| ")]) == 6
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(("ratio", "missed"), [(0.999, True), (1.0, False)])
def test_the_bar_is_the_verdict(ratio: float, missed: bool) -> None:
    rows = (ExtractionRow("a", "CPU", 1.0, 0.1, None), ExtractionRow("b", "CPU", 1.0, ratio, 1.0))
    assert ExtractionTable(1, 1, 1, rows).missed is missed


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no"):
        extraction(videos=tmp_path)
    with pytest.raises(UsageError, match="--rounds"):
        extraction(rounds=0)
