"""Arrays are those that NumPy reads, and damage of any kind is one refusal."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest

from vidom.errors import BadDataError
from vidom.formats.npy import decode_npy, read_npy, read_npy_header

ARRAYS = [
    np.float32(4),
    np.zeros((0, 3)),
    np.arange(6, dtype=">i4").reshape(2, 3),
    np.asfortranarray(np.arange(24, dtype=np.float16).reshape(2, 3, 4)),
    np.array(["a", "böc"]),
    np.array([True, False]),
    np.zeros(2, "V2"),
]


@pytest.mark.parametrize("array", ARRAYS, ids=str)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_what_numpy_writes_is_read(array: np.ndarray, version: tuple[int, int]) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), version=version)
    np.testing.assert_array_equal(decode_npy(stream.getvalue()), array, strict=True)


def with_header(header: bytes, content: bytes = bytes(24)) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def test_python_2_s_long_numbers_are_read() -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }     \n"
    assert decode_npy(with_header(header)).shape == (2, 3)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   , 'shape': (1, 6), }\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (True, 6), }\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -3), }\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (6), }\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9" * 5000 + b",), }\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"1, " * 40 + b"6), }\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999999999, 999999999999999999), }\n",
        b"{'descr': '<f4', 'fortran_order': 0, 'shape': (6,), }\n",
        b"{'descr': '<f3', 'fortran_order': False, 'shape': (6,), }\n",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (3,), }\n",
        b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,), }\n",
        b"(" * 9000,
        b"'''",
        b"",
    ],
)
def test_other_headers_are_refused(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(with_header(header))
    with pytest.raises(BadDataError, match=r"The input a.* is not a readable \.npy file") as whole:
        read_npy(path, what="input a", max_bytes=100)
    with pytest.raises(BadDataError) as start:
        read_npy_header(path, what="input a")
    assert str(start.value) == str(whole.value)
    assert len(str(whole.value)) < 500


def test_bytes_that_lack_or_follow_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((2, 3), np.float32))
    complete = path.read_bytes()
    assert read_npy_header(path, what="input").shape == (2, 3)
    for content in (complete[:-1], complete + b"\0", complete[:40], complete[:7], b""):
        path.write_bytes(content)
        for read in (
            lambda: read_npy(path, what="input", max_bytes=24),
            lambda: read_npy_header(path, what="input"),
        ):
            with pytest.raises(BadDataError, match="is not a readable"):
                read()
    with pytest.raises(BadDataError, match="does not exist"):
        read_npy_header(tmp_path, what="input")


def test_files_of_the_campaign_are_refused(fixtures: Path) -> None:
    paths = sorted((fixtures / "attacks").glob("npy_TokenError_*.npy"))
    assert len(paths) == 2
    for path in paths:
        with pytest.raises(BadDataError, match="header is damaged"):
            read_npy(path, what="output", max_bytes=1 << 16)


def test_no_damage_gives_a_different_error() -> None:
    """Bytes replaced, inserted, left out and repeated, mostly in the header."""
    stream, random_ = io.BytesIO(), random.Random(7)
    np.save(stream, np.arange(6, dtype=np.float32).reshape(1, 6))
    whole, refused = stream.getvalue(), 0
    for _ in range(3000):
        content = bytearray(whole)
        for _ in range(random_.randint(1, 4)):
            place = random_.randrange(min(len(content), 90))
            end = place + random_.choice((0, 1, 1, 2, 8))
            content[place:end] = random_.choice(
                (b"", b"(", b"'", b"9", content[place:end] * 2, random_.randbytes(2))
            )
        try:
            assert decode_npy(bytes(content)).nbytes <= 24
        except ValueError:
            refused += 1
    assert refused > 2000
