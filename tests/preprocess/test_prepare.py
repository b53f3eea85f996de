"""The options of prepare, what it records, and that it does not modify its source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_videos import tree, write_video

from preprocess.prepare import PrepareOptions, prepare
from vidom.errors import UsageError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number in range(3):
        write_video(tmp_path / "src" / "val" / "ab"[number % 2] / f"{number}.mp4", frames=4, seed=number)
    return tmp_path / "src"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"dataset": "sthv2"}, ("pyav", 0, None)),
        ({"dataset": "kinetics400"}, ("pyav", 256, None)),
        ({"dataset": "kinetics400", "short_side": 0}, ("pyav", 0, None)),
        ({"dataset": "folder", "fps": 12.5}, ("pyav", 0, 12.5)),
        ({"dataset": "folder", "decoder": "opencv"}, ("opencv", 0, None)),
    ],
)
def test_settings_are_those_of_the_data_set_unless_given(given: dict, expected: tuple) -> None:
    settings = PrepareOptions(src=Path("src"), out=Path("out"), **given).settings
    assert (settings.decoder, settings.short_side, settings.fps) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": 0}, "--workers"),
        ({"packs": True}, "for StNet"),
        ({"quality": 101}, "--quality"),
        ({"fps": 25, "decoder": "opencv"}, "--decoder pyav"),
    ],
)
def test_invalid_options_are_rejected(source: Path, tmp_path: Path, given: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prepare(PrepareOptions(dataset="folder", src=source, out=tmp_path / "out", **given))
    assert not (tmp_path / "out").exists()


def test_the_records_name_the_decoder(source: Path, tmp_path: Path) -> None:
    prepare(PrepareOptions(dataset="folder", src=source, out=tmp_path / "out", decoder="pyav", short_side=32))
    record = json.loads((tmp_path / "out" / "preparation.json").read_text())
    assert record["frames"]["decoder_version"].startswith("PyAV")
    assert record["frames"]["short_side"] == 32
    header, *lines = (tmp_path / "out" / "extraction.jsonl").read_text().splitlines()
    assert json.loads(header) == record["frames"]
    assert len(lines) == 3


def test_the_source_folder_is_not_modified(tmp_path: Path) -> None:
    write_video(tmp_path / "src" / "val" / "a" / "1.mp4", frames=2)
    before = tree(tmp_path / "src")
    prepare(PrepareOptions(dataset="folder", src=tmp_path / "src", out=tmp_path / "out"))
    assert tree(tmp_path / "src") == before
