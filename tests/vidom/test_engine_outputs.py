from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from vidom.errors import BadDataError
from vidom.files import write_bytes
from vidom.formats.engine_outputs import (
    ResultFile,
    encode_output,
    output_stem,
    read_output,
    read_summary,
    summary_path,
    time_statistics,
    write_summary,
)

ROWS = np.array([[0.5, -1.25, 3e-8], [12345.678, np.inf, np.nan]], np.float32)
PARAMETERS = pytest.mark.parametrize(
    "array",
    [
        ROWS,
        ROWS.astype(np.float16),
        ROWS.astype(np.float64).reshape(1, 2, 3),
        np.array([[1, -2], [2**62, 0]]),
        np.array([True, False]),
        np.arange(4, dtype=np.uint8).reshape(2, 2),
    ],
)


@PARAMETERS
def test_text_is_what_savetxt_makes_of_each_row(array: np.ndarray):
    stream = io.BytesIO()
    for row in array.reshape(-1, array.shape[-1]):
        np.savetxt(stream, row[None], fmt="%f" if array.dtype.kind == "f" else "%d", newline=" \n")
    assert encode_output(array, "TXT") == stream.getvalue()


@PARAMETERS
def test_bin_and_npy_are_numpy_s_own(array: np.ndarray, tmp_path: Path):
    assert encode_output(array, "BIN") == array.tobytes()
    write_bytes(tmp_path / "a_0.npy", encode_output(array, "NPY"))
    np.testing.assert_array_equal(np.load(tmp_path / "a_0.npy"), array, strict=True)


def test_ais_bench_s_own_files_are_reproduced_and_read(fixtures: Path):
    for batch in (1, 2):
        for path in sorted((fixtures / "ais_bench" / "res" / f"bs{batch}_NPY").iterdir()):
            array = np.load(path)
            for outfmt in ("BIN", "NPY", "TXT"):
                name = path.with_suffix(f".{outfmt.lower()}").name
                truth = fixtures / "ais_bench" / "res" / f"bs{batch}_{outfmt}" / name
                assert encode_output(array, outfmt) == truth.read_bytes()
                np.testing.assert_allclose(read_output(truth, classes=3), array, atol=5e-7)


def test_a_name_counts_up_to_its_first_dot():
    assert output_stem("./in/clip.v1.bin") == "clip"
    assert output_stem(Path("a.b/000017.bin")) == "000017"
    assert summary_path(Path("o"), "run") == Path("o/run_summary.json")


def test_rows_are_read_whatever_leads_them(tmp_path: Path):
    for shape in ((3,), (1, 3), (2, 1, 3), (2, 5, 3)):
        array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        for outfmt in ("BIN", "NPY", "TXT"):
            path = tmp_path / f"a_0.{outfmt.lower()}"
            write_bytes(path, encode_output(array, outfmt))
            np.testing.assert_array_equal(read_output(path, classes=3), array.reshape(-1, 3))
    np.save(tmp_path / "scalar.npy", np.float32(4))
    assert read_output(tmp_path / "scalar.npy").tolist() == [[4.0]]


def test_text_with_exponents_and_six_digits_is_read(tmp_path: Path):
    """The pipeline mode of ais_bench writes with six significant digits."""
    (tmp_path / "a_0.txt").write_text("6.30158e-05 1 nan \n\n2 -3E2 inf \n")
    np.testing.assert_array_equal(
        read_output(tmp_path / "a_0.txt"), [[6.30158e-05, 1, np.nan], [2, -300, np.inf]]
    )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b"1 2 \n3 \n", "cannot be read"),
        ("a.txt", b"1 two \n", "cannot be read"),
        ("a.txt", b"\xff\xfe", "cannot be read"),
        ("a.bin", b"", "is empty"),
        ("a.bin", bytes(16), "cannot be read"),
        ("a.bin", bytes(14), "cannot be read"),
        ("a.npy", b"", "cannot be read"),
        ("a.npy", b"\x93NUMPY\x01\x00", "cannot be read"),
        ("a.csv", b"1", "must end in"),
    ],
)
def test_damaged_outputs_are_bad_data(name: str, content: bytes, words: str, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadDataError, match=rf"{name}.*{words}"):
        read_output(tmp_path / name, classes=3)


def test_hostile_outputs_are_bad_data(tmp_path: Path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([{"a": 1}], dtype=object))
    with pytest.raises(BadDataError, match="cannot be read"):
        read_output(path)
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 3)}
    )
    path.write_bytes(head.getvalue())
    with pytest.raises(BadDataError, match="cannot be read"):
        read_output(path)
    with pytest.raises(BadDataError, match="does not exist"):
        read_output(tmp_path / "gone.npy")
    with (tmp_path / "huge.bin").open("wb") as stream:
        os.truncate(stream.fileno(), (1 << 28) + 4)
    with pytest.raises(BadDataError, match="more than the"):
        read_output(tmp_path / "huge.bin", classes=1)


def test_a_bin_output_needs_the_class_count(tmp_path: Path):
    (tmp_path / "a.bin").write_bytes(bytes(12))
    with pytest.raises(BadDataError, match="class count must be given"):
        read_output(tmp_path / "a.bin")


def test_statistics_are_those_of_ais_bench(fixtures: Path):
    for path in (fixtures / "ais_bench" / "res").glob("*_summary.json"):
        document = json.loads(path.read_text())
        found = time_statistics(document["npu_compute_time_list"])
        assert list(found) == list(document["NPU_compute_time"])
        assert found == pytest.approx(document["NPU_compute_time"], rel=1e-15)


def write(path: Path, files: list[ResultFile]) -> None:
    write_summary(
        path, files=files, args=["infer", "--loop"], compute_ms=[1.0, 3.0], h2d_ms=[0.5], d2h_ms=[0.25],
        batch_size=4, pid=17, extra={"samples": 5},
    )  # fmt: skip


def test_a_summary_is_read_back_in_input_order(tmp_path: Path):
    files = [ResultFile(str(n), (f"in/ü{n}.bin",), (f"o/ü{n}_0.npy", f"o/ü{n}_1.npy")) for n in range(12)]
    write(tmp_path / "s.json", files)
    entries, document = read_summary(tmp_path / "s.json")
    assert list(entries) == files
    assert document["throughput"] == 2000.0 and document["npu_compute_time_list"] == [1.0, 3.0]
    assert list(document) == [
        "filesinfo", "args", "NPU_compute_time", "H2D_latency", "D2H_latency", "npu_compute_time_list",
        "throughput", "pid", "vidom",
    ]  # fmt: skip
    # "10" sorts before "2" as text.
    shuffled = dict(sorted(document["filesinfo"].items()))
    (tmp_path / "s.json").write_text(json.dumps({"filesinfo": shuffled}))
    assert list(read_summary(tmp_path / "s.json")[0]) == files


def test_ais_bench_s_summaries_are_read(fixtures: Path):
    entries, _ = read_summary(fixtures / "ais_bench" / "res" / "bs2_TXT_summary.json")
    assert entries[4] == ResultFile("4", ("./in5/video_4.bin",), ("./res/bs2_TXT/video_4_0.txt",))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"filesinfo": []}',
        '{"filesinfo": null}',
        '{"filesinfo": {}}',
        '{"filesinfo": {"a": {"infiles": [], "outfiles": []}}}',
        '{"filesinfo": {"0": {"infiles": ["x"]}}}',
        '{"filesinfo": {"0": ["x"]}}',
        '{"filesinfo": {"0": {"infiles": "x.bin", "outfiles": "x_0.bin"}}}',
        '{"filesinfo": {"0": {"infiles": ["x"], "outfiles": [1]}}}',
        "[" * 100_000,
    ],
)
def test_damaged_summaries_are_bad_data(content: str, tmp_path: Path):
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(BadDataError, match=r"s\.json"):
        read_summary(tmp_path / "s.json")
    with pytest.raises(BadDataError, match="does not exist"):
        read_summary(tmp_path / "gone.json")
