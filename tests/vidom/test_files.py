from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from held_folder import held_folder

from vidom.bounded_reading import read_bytes, read_json, read_lines, read_text
from vidom.errors import BadDataError, UnavailableError
from vidom.files import (
    TEMP_SUFFIX,
    atomic_path,
    crc32_file,
    free_bytes,
    human_bytes,
    sha256_file,
    write_json,
    write_text,
)
from vidom.folder_lock import locked_folder
from vidom.journals import append_line, open_journal, read_json_lines


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


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("9" * 5000, "digits"),
        ("[NaN]", "NaN"),
        ('{"a": -Infinity}', "Infinity"),
        ("[1\0]", "null characters"),
    ],
)
def test_json_beyond_the_standard_or_python_s_limits_is_bad_data(tmp_path: Path, text: str, reason: str):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(BadDataError, match=reason):
        read_json(path)


def test_only_regular_files_are_read(tmp_path: Path):
    fifo, loop = tmp_path / "fifo", tmp_path / "loop"
    os.mkfifo(fifo)
    loop.symlink_to(loop)
    for path in (fifo, loop, tmp_path, Path("/dev/zero"), tmp_path / ("x" * 300), Path("a\0b"), fifo / "a"):
        with pytest.raises(BadDataError):
            read_bytes(path)


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("视频 1\n".encode("utf-16"), "UTF-16"),
        ("video 1\n".encode("utf-16-be"), "UTF-16BE"),
        ("video 1\n".encode("utf-16-le"), "UTF-16LE"),
        ("视频/打篮球.mp4 1\n".encode("gbk"), "GB18030"),
    ],
)
def test_another_encoding_is_named(tmp_path: Path, content: bytes, encoding: str):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(BadDataError, match=f"iconv -f {encoding} "):
        read_text(path)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf[1]")
    assert read_lines(path) == ("[1]",)
    assert read_json(path) == [1]


def test_a_journal_cut_inside_a_letter_gives_the_whole_lines_and_continues_after_them(tmp_path: Path):
    path = tmp_path / "j.jsonl"
    path.write_bytes('["篮"]\n["篮"]\n'.encode()[:-5])
    assert read_json_lines(path) == [["篮"]]
    with open_journal(path, read_json_lines(path)) as stream:
        append_line(stream, ["球"])
    assert read_json_lines(path) == [["篮"], ["球"]]


def test_a_folder_belongs_to_one_process_until_it_ends_however_it_ends(tmp_path: Path):
    folder = tmp_path / "out"
    with (
        held_folder(folder) as holder,
        pytest.raises(UnavailableError, match=f"Process {holder.pid} is working in"),
        locked_folder(folder),
    ):
        pass
    with locked_folder(folder), locked_folder(tmp_path / "." / "out"):
        (folder / "a").touch()
    assert [path.name for path in folder.iterdir()] == ["a"]


def test_a_lock_that_cannot_be_written_leaves_nothing(tmp_path: Path):
    lock = (
        f"from vidom.files import locked_folder\nwith locked_folder({str(tmp_path / 'new' / 'out')!r}): pass"
    )
    done = subprocess.run(["bash", "-c", 'ulimit -f 0; exec "$0" -c "$1"', sys.executable, lock], check=False,
                          capture_output=True)  # fmt: skip
    assert done.returncode != 0 and list(tmp_path.iterdir()) == []


def test_names_of_undecodable_bytes_go_through_json(tmp_path: Path):
    name = os.fsdecode(b"caf\xe9 \xe2\x98\x83")
    write_json(tmp_path / "a.json", [name])
    assert read_json(tmp_path / "a.json") == [name]
    with open_journal(tmp_path / "j.jsonl", [[name]]) as stream:
        append_line(stream, [name])
    assert read_json_lines(tmp_path / "j.jsonl") == [[name], [name]]


def test_a_folder_that_got_no_file_is_removed_again(tmp_path: Path):
    with locked_folder(tmp_path / "new" / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_temporary_files_of_ended_processes_only_are_removed(tmp_path: Path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    running = tmp_path / f"a.txt.{os.getppid()}{TEMP_SUFFIX}"
    left, other = (tmp_path / f"{name}.{ended.pid}{TEMP_SUFFIX}" for name in ("a.txt", "b.txt"))
    for path in (running, left, other, tmp_path / "data.part"):
        path.touch()
    write_text(tmp_path / "a.txt", "")
    assert running.exists() and other.exists() and not left.exists()
    with locked_folder(tmp_path):
        assert running.exists() and not other.exists()
    assert (tmp_path / "data.part").exists()


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
