"""The table of extraction speeds and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.extraction.extraction_benchmark import ExtractionOptions, extraction, main
from vidom.errors import UsageError


def write_video(path: Path, frames: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for number in range(frames):
            image = np.full((24, 32, 3), number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.slow
@pytest.mark.usefixtures("two_cores")
def test_the_table_has_a_row_for_each_variant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos, work = tmp_path / "videos", tmp_path / "work"
    for folder in (videos, work):
        folder.mkdir()
    for number in range(4):
        write_video(videos / f"{number}.mp4", 5 + number)
    output = tmp_path / "out"
    arguments = ["--videos", str(videos), "--rounds", "1", "--output_dir", str(output), "--work", str(work)]
    code = main(arguments)
    assert capsys.readouterr().out == (output / "extraction.md").read_text()
    document = json.loads((output / "extraction.json").read_text())
    (table,) = document["tables"]
    assert table["title"] == "4 videos, 26 frames"
    assert [row[:2] for row in table["rows"]] == [
        ["plain cv2", "CPU"],
        ["pyav", "CPU"],
        ["opencv, checked", "CPU"],
        ["plain cv2", "wall"],
        ["pyav, 2 workers", "wall"],
    ]
    for _, clock, speed, ratio in table["rows"]:
        (plain,) = (row[2] for row in table["rows"] if row[:2] == ["plain cv2", clock])
        assert ratio == pytest.approx(speed / plain)
    ratios = {row[0]: row[3] for row in table["rows"]}
    assert [(target["measured"], target["required"]) for target in document["targets"]] == [
        (pytest.approx(ratios["pyav"]), 0.95),
        (pytest.approx(ratios["pyav, 2 workers"]), 1.8),
    ]
    assert code == (
        0 if all(target["measured"] >= target["required"] for target in document["targets"]) else 1
    )
    assert list(work.iterdir()) == []


@pytest.mark.usefixtures("two_cores")
def test_wrong_options_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="contains no"):
        extraction(ExtractionOptions(output_dir=tmp_path, videos=tmp_path))
    with pytest.raises(UsageError, match="--rounds"):
        ExtractionOptions(rounds=0)
