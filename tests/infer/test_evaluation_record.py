from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from infer.evaluation.record import Row, RowRecord, read_header, read_rows
from vidom.errors import UsageError


def test_rows_come_back_bit_for_bit(tmp_path: Path):
    scores = np.array([1 / 3, -0.0, 3e38, 1e-45], np.float32)
    record = RowRecord(tmp_path, {"a": 1})
    record.add([Row(7, 'ein "Name" ✓', 3, scores), Row(2, "b", 0, scores[::-1])])
    record.add([Row(7, "again", 3, scores)])
    record.close()
    first, second = read_rows(record.path)
    assert (first.index, first.id, first.label) == (7, 'ein "Name" ✓', 3)
    assert first.scores.tobytes() == scores.tobytes() and second.index == 2
    assert RowRecord(tmp_path, {"a": 1}).done == {2, 7}


def test_rows_of_impossible_numbers_are_computed_again(fixtures: Path, tmp_path: Path):
    (path,) = (fixtures / "attacks").glob("record_jsonl_*")
    record = tmp_path / "record.jsonl"
    record.write_bytes(path.read_bytes())
    assert [row.index for row in read_rows(record)] == [0, 1, 2, 4]
    assert RowRecord(tmp_path, read_header(record)).done == {0, 1, 2, 4}


@pytest.mark.parametrize(
    "text",
    [
        '{"index": 1e999, "id": "a", "label": 0, "scores": ""}',
        '{"index": true, "id": "a", "label": 0, "scores": ""}',
        '{"index": 1, "id": 5, "label": 0, "scores": ""}',
        '{"index": 1, "id": "a", "label": 0.5, "scores": ""}',
        '{"index": 1, "id": "a", "label": 0, "scores": "AAA"}',
        '{"index": 1, "id": "a", "label": 0, "scores": "AAAA"}',
        '{"index": 1, "id": "a", "label": 0, "scores": null}',
        '{"index": %s, "id": "a", "label": 0, "scores": ""}' % ("9" * 5000),
        '{"index": NaN, "id": "a", "label": 0, "scores": ""}',
        "[" * 100_000,
        "7",
    ],
)
def test_lines_that_are_no_rows_are_left_out_whatever_their_checksum(text: str, tmp_path: Path):
    record = RowRecord(tmp_path, {"a": 1})
    record.close()
    with record.path.open("ab") as stream:
        stream.write(b"%08x %s\n" % (zlib.crc32(text.encode()), text.encode()))
    assert list(read_rows(record.path)) == []
    assert RowRecord(tmp_path, {"a": 1}).done == set()


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_no_record(make: Callable[[Path], object], tmp_path: Path):
    make(tmp_path / "record.jsonl")
    with pytest.raises(UsageError, match="not a record"):
        RowRecord(tmp_path, {"a": 1})


def test_a_row_that_is_written_in_part_is_an_error(tmp_path: Path):
    """The system writes as much as fits and reports an error for the next byte only."""
    code = (
        "import resource, sys, numpy; from pathlib import Path; from infer.evaluation.record import Row, RowRecord\n"
        "record = RowRecord(Path(sys.argv[1]), {'a': 1})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n"
        "record.add([Row(0, 'a', 0, numpy.zeros(100, numpy.float32))])"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
