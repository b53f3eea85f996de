from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import pytest

from vidom.errors import BadDataError
from vidom.files import (
    append_line,
    atomic_path,
    crc32_file,
    free_bytes,
    human_bytes,
    read_json,
    read_json_lines,
    read_lines,
    sha256_file,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_fingerprints_equal_those_of_the_standard_library(tmp_path: Path):
    content = bytes(range(256)) * 9000
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    assert sha256_file(path) == hashlib.sha256(content).hexdigest()
    assert crc32_file(path) == zlib.crc32(content)


def test_a_journal_torn_in_its_last_line_gives_the_whole_ones(tmp_path: Path):
    path = tmp_path / "j.jsonl"
    with path.open("w") as stream:
        append_line(stream, {"a": 1})
        append_line(stream, ["ü"])
        stream.write('{"b": ')
    assert read_json_lines(path) == [{"a": 1}, ["ü"]]
    assert read_json_lines(tmp_path / "absent") == []


def test_json_that_is_absent_cut_short_or_hostile_is_bad_data(tmp_path: Path):
    path = tmp_path / "a.json"
    with pytest.raises(BadDataError, match="does not exist"):
        read_json(path)
    write_json(path, {"a": [1, 2]})
    assert read_json(path) == {"a": [1, 2]}
    path.write_text('{"a": [1')
    with pytest.raises(BadDataError, match="cut short"):
        read_json(path)
    path.write_text("[" * 200_000)
    with pytest.raises(BadDataError, match="not valid JSON"):
        read_json(path)
    with pytest.raises(BadDataError, match="more than the 10"):
        read_json(path, max_bytes=10)
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, float("nan"))


def test_lines_lose_their_ends_only(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes("ä b \r\n\nc\n\n".encode())
    assert read_lines(path) == ("ä b ", "", "c")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadDataError, match="UTF-8"):
        read_lines(path)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (37_748_736, "37.7 MB"), (935_282_000_000, "935.3 GB"), (5e15, "5000.0 TB")],
)
def test_bytes_are_told_in_decimal_units(count: float, text: str):
    assert human_bytes(count) == text


def test_free_space_is_known_for_a_folder_that_does_not_exist_yet(tmp_path: Path):
    assert free_bytes(tmp_path / "a" / "b") > 0
