"""Outputs read many at a time are those read one by one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidom.errors import BadDataError
from vidom.formats.engine_outputs import encode_output, read_output
from vidom.formats.output_groups import read_outputs

CLASSES = 4


def written(folder: Path, contents: Sequence[bytes], suffix: str) -> list[Path]:
    paths = [folder / f"{number}_0.{suffix}" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


@pytest.mark.parametrize("outfmt", ["TXT", "NPY", "BIN"])
@pytest.mark.parametrize("shapes", [[(1, 4)] * 3, [(3, 4)] * 2, [(2, 1, 4)], [(1, 4), (2, 4)], [(4,)] * 2])
@pytest.mark.parametrize("scale", [1, -5000])
def test_what_the_arrays_were_is_read(
    outfmt: str, shapes: list[tuple[int, ...]], scale: int, tmp_path: Path
) -> None:
    arrays = [np.random.default_rng(3).random(shape, np.float32) * scale for shape in shapes]
    paths = written(tmp_path, [encode_output(array, outfmt) for array in arrays], outfmt.lower())
    found = read_outputs(paths, classes=CLASSES)
    for array, rows in zip(arrays, found, strict=True):
        truth = array.reshape(-1, CLASSES)
        np.testing.assert_allclose(rows, truth, rtol=0, atol=5e-7 if outfmt == "TXT" else 0)
        assert rows.dtype == (np.float64 if outfmt == "TXT" else np.float32)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 5).flatmap(
        lambda columns: st.lists(
            st.lists(st.integers(0, 9_999_999), min_size=columns, max_size=columns), min_size=1, max_size=6
        )
    )
)
def test_every_digit_counts_as_python_reads_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]]
) -> None:
    words = [[f"{cell // 10**6}.{cell % 10**6:06d}" for cell in row] for row in rows]
    texts = ["".join(f"{word} " for word in row).encode() + b"\n" for row in words]
    found = read_outputs(written(tmp_path_factory.mktemp("texts"), texts, "txt"))
    assert [row.tolist() for row in found] == [[[float(word) for word in row]] for row in words]


@pytest.mark.parametrize(
    ("suffix", "usual", "odd"),
    [
        ("txt", b"0.500000 0.500000 \n", b"-.500000 0.500000 \n"),
        ("txt", b"0.500000 0.500000 \n", b"0.500000 nan      \n"),
        ("txt", b"0.500000 0.500000 \n", b"0.500000\n0.50000 \n"),
        ("txt", b"0.500000 0.500000 \n", b"5.000e-1 0.500000 \n"),
        ("txt", b"0.500000 \n0.500000 \n", b"0.500000 0.500000  \n"),
        ("txt", b"0.500000 \n", b"\n\n\n\n\n\n\n\n\n\n"),
        ("txt", b"0.500000 \n", b"0.:00000 \n"),
        ("txt", b"0.500000 \n", b"0.5/0000 \n"),
        (
            "npy",
            encode_output(np.ones((2, 2), np.float32), "NPY"),
            encode_output(np.ones((4, 1), "<i4"), "NPY"),
        ),
        ("npy", encode_output(np.ones((1, 3), np.float32), "NPY"), b"\x93NUMPY" + bytes(134)),
        ("npy", encode_output(np.ones((1, 3), np.float32), "NPY"), b"PK" + bytes(138)),
        ("bin", bytes(16), bytes(15)),
    ],
)
@pytest.mark.parametrize("odd_first", [False, True])
def test_one_that_is_not_like_the_others_is_read_or_refused_as_if_alone(
    suffix: str, usual: bytes, odd: bytes, odd_first: bool, tmp_path: Path
) -> None:
    contents = [odd, usual, usual] if odd_first else [usual, usual, odd]
    paths = written(tmp_path, contents, suffix)
    try:
        truths = [read_output(path, classes=CLASSES) for path in paths]
    except BadDataError as refusal:
        with pytest.raises(BadDataError) as found:
            list(read_outputs(paths, classes=CLASSES))
        assert str(found.value) == str(refusal)
    else:
        for rows, truth in zip(read_outputs(paths, classes=CLASSES), truths, strict=True):
            np.testing.assert_array_equal(rows, truth, strict=True)


def test_the_usual_is_parsed_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the tests above would hold of a loop over `read_output`."""

    def alone(path: Path, *, classes: int | None) -> None:
        raise RuntimeError(f"{path} was read alone")

    monkeypatch.setattr("vidom.formats.output_groups.read_output", alone)
    rows = np.full((2, 3), 0.25, np.float32)
    for outfmt in ("TXT", "NPY", "BIN"):
        paths = written(tmp_path, [encode_output(rows, outfmt)] * 3, outfmt.lower())
        assert [array.tolist() for array in read_outputs(paths, classes=3)] == [rows.tolist()] * 3
    assert list(read_outputs([])) == []


def test_large_mixed_and_absent_files_are_read_alone(tmp_path: Path) -> None:
    large = np.arange(20_000, dtype=np.float32).reshape(1, -1)
    paths = written(tmp_path, [encode_output(large, "NPY")] * 2, "npy")
    text = tmp_path / "9_0.txt"
    text.write_bytes(b"1 2 \n")
    sizes = [rows.size for rows in read_outputs([*paths, text])]
    assert sizes == [20_000, 20_000, 2]
    with pytest.raises(BadDataError, match="does not exist"):
        list(read_outputs([text, tmp_path / "gone.txt"]))
    with pytest.raises(BadDataError, match="must end in"):
        list(read_outputs([os.devnull]))
