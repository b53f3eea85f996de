"""Frame numbers of folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from preprocess.sources.frame_folders import frame_numbers


def test_numbers_of_any_width_are_read_as_numbers(tmp_path: Path) -> None:
    # As text, img_100000.jpg comes before img_99999.jpg and after img_10000.jpg.
    for number in (9999, 10000, 99999, 100000, 100001):
        (tmp_path / f"img_{number:05}.jpg").touch()
    for other in (
        "img_1.jpg",
        "img_x.txt",
        "img_00001.jpg.tmp",
        "IMG_00001.JPG",
        "img_000123.jpg",
        "img_99999999.jpg",
    ):
        (tmp_path / other).touch()
    found = frame_numbers(tmp_path)
    assert (found.frames, found.first, found.last, found.other_entries) == (5, 9999, 100001, 6)
    assert found.missing == tuple(range(10001, 10011))


@pytest.mark.parametrize("template", ["frame_{:010d}.jpg", "{}.png", "{:6}.jpg", "a{:03}1.jpg", "{:012}"])
def test_numbers_of_any_template_are_found(tmp_path: Path, template: str) -> None:
    for number in range(12):
        (tmp_path / template.format(number)).touch()
    found = frame_numbers(tmp_path, template=template)
    assert (found.frames, found.first, found.last, found.other_entries) == (12, 0, 11, 0)


def test_a_gap_in_a_folder_of_twenty_thousand_frames_is_found(tmp_path: Path) -> None:
    for number in range(1, 20_001):
        (tmp_path / f"{number:05}.jpg").touch()
    (tmp_path / "07777.jpg").unlink()
    found = frame_numbers(tmp_path, template="{:05}.jpg")
    assert (found.frames, found.first, found.last, found.missing) == (19_999, 1, 20_000, (7777,))
