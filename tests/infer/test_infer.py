from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import WEIGHTS, linear, rows_of, save, two_inputs, two_outputs, write_rows
from run_infer import run_infer

from infer.engines.onnxruntime import OnnxRuntimeEngine
from vidom.errors import BadDataError, UsageError
from vidom.formats.engine_outputs import read_output, read_summary

THROUGHPUT = re.compile(
    r"throughput 1000\*batchsize\.mean\((\d+)\)/NPU_compute_time\.mean\(([\d.eE+-]+)\): ([\d.eE+-]+)"
)
NUMBER = re.compile(r"\d+\.\d+(e-?\d+)?")


def nothing(_line: str) -> None:
    """Print nothing."""


def summary_keys(document: object) -> object:
    """The document with every value but a nested object replaced, key order kept."""
    if isinstance(document, dict):
        return [(key, summary_keys(value)) for key, value in document.items() if key != "vidom"]
    return type(document).__name__


@pytest.mark.parametrize("outfmt", ["TXT", "NPY", "BIN"])
@pytest.mark.parametrize("batch", [1, 2])
def test_files_and_summary_are_those_of_ais_bench(
    batch: int, outfmt: str, fixtures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    truth = fixtures / "ais_bench"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in5").symlink_to(truth / "in5")
    name = f"bs{batch}_{outfmt}"
    run_infer(
        model=truth / f"tiny_bs{batch}.onnx",
        input="./in5",
        output="./res",
        output_dirname=name,
        outfmt=outfmt,
        say=nothing,
    )
    wanted = sorted((truth / "res" / name).iterdir())
    assert [path.name for path in sorted((tmp_path / "res" / name).iterdir())] == [p.name for p in wanted]
    for path in wanted:
        found = tmp_path / "res" / name / path.name
        assert len(found.read_bytes()) == len(path.read_bytes())
        if found.read_bytes() != path.read_bytes():  # another runtime may round the last bit otherwise
            ours, theirs = (read_output(file, classes=3) for file in (found, path))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6 if outfmt == "TXT" else 1e-7)
    ours, theirs = (
        json.loads((root / "res" / f"{name}_summary.json").read_text()) for root in (tmp_path, truth)
    )
    assert "\n" not in (tmp_path / "res" / f"{name}_summary.json").read_text()
    assert ours["filesinfo"] == theirs["filesinfo"]
    assert summary_keys(ours) == summary_keys(theirs)
    assert (
        ours["NPU_compute_time"]["count"]
        == theirs["NPU_compute_time"]["count"]
        == len(ours["npu_compute_time_list"])
    )
    assert ours["throughput"] == 1000 * batch / np.mean(ours["npu_compute_time_list"])


def lines_without_numbers(lines: Iterable[str]) -> list[str]:
    return [NUMBER.sub("#", line) for line in lines]


def test_the_lines_are_those_of_ais_bench(
    fixtures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    truth = fixtures / "ais_bench"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in5").symlink_to(truth / "in5")
    result = run_infer(
        model=truth / "tiny_bs2.onnx", input="./in5", output="./res", output_dirname="bs2_TXT", outfmt="TXT"
    )
    printed = capsys.readouterr().out.splitlines()
    log = (truth / "log_bs2_TXT.txt").read_text().splitlines()
    kept = re.compile(r"\[INFO\] (try get|output path|get files|warm up|---|NPU_compute|throughput)")
    wanted = [line for line in log if kept.match(line)]
    assert lines_without_numbers(filter(kept.match, printed)) == lines_without_numbers(wanted)
    (found,) = (match for line in printed if (match := THROUGHPUT.search(line)))
    assert int(found[1]) == 2
    assert float(found[3]) == result.throughput == pytest.approx(2000 / float(found[2]), rel=1e-12)


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_every_batch_size_gives_each_file_the_row_it_has_alone(batch: int, tmp_path: Path):
    rows = rows_of(5)
    folder = write_rows(tmp_path / "in", rows)
    result = run_infer(
        model=linear(tmp_path / "m.onnx", batch),
        input=folder,
        output=tmp_path / "out",
        output_dirname="run",
        outfmt="NPY",
        say=nothing,
    )
    assert (result.samples, result.padded_rows) == (5, -5 % batch)
    assert len(result.compute_ms) == len(result.h2d_ms) == len(result.d2h_ms) == -(-5 // batch)
    assert len(list((tmp_path / "out" / "run").iterdir())) == 5
    entries, document = read_summary(tmp_path / "out" / "run_summary.json")
    for number, entry in enumerate(entries):
        assert entry.infiles == (f"{folder}/video_{number}.bin",)
        (outfile,) = entry.outfiles
        found = np.load(outfile)
        assert found.shape == (1, 3)
        np.testing.assert_allclose(found, rows[number : number + 1] @ WEIGHTS, rtol=1e-5, atol=1e-6)
    own = document["vidom"]
    assert (own["engine"], own["device"]) == ("onnxruntime", "CPU (ONNX Runtime)")
    assert (own["samples"], own["padded_rows"], own["resumed"]) == (5, -5 % batch, 0)
    assert own["samples_per_second"] == pytest.approx(5 / own["end_to_end_seconds"])


def test_a_symbolic_batch_is_set_by_either_option(tmp_path: Path):
    model = linear(tmp_path / "m.onnx", "N")
    folder = write_rows(tmp_path / "in", rows_of(5))
    for option in ({"dym_batch": 2}, {"batchsize": 2}):
        result = run_infer(model=model, input=folder, say=nothing, **option)
        assert (result.batch_size, len(result.compute_ms), result.summary) == (2, 3, None)
    with pytest.raises(UsageError, match="--dymBatch"):
        run_infer(model=model, input=folder, say=nothing)
    with pytest.raises(UsageError, match="fixed batch of 2"):
        run_infer(model=linear(tmp_path / "f.onnx", 2), input=folder, dym_batch=2, say=nothing)


def test_batchsize_changes_nothing_but_the_figure_of_a_fixed_batch(tmp_path: Path):
    result = run_infer(
        model=linear(tmp_path / "m.onnx", 2),
        input=write_rows(tmp_path / "in", rows_of(5)),
        batchsize=96,
        say=nothing,
    )
    assert len(result.compute_ms) == 3
    assert result.throughput == pytest.approx(96000 / np.mean(result.compute_ms))


def test_files_of_several_rows_get_their_rows_back(tmp_path: Path):
    rows = rows_of(6)
    run_infer(
        model=linear(tmp_path / "m.onnx", 4),
        input=write_rows(tmp_path / "in", rows.reshape(3, 2, 4)),
        output=tmp_path / "out",
        output_dirname="run",
        outfmt="TXT",
        say=nothing,
    )
    for number in range(3):
        found = read_output(tmp_path / "out" / "run" / f"video_{number}_0.txt")
        np.testing.assert_allclose(found, rows[2 * number : 2 * number + 2] @ WEIGHTS, atol=1e-6)


def test_every_output_has_its_own_file(tmp_path: Path):
    rows = rows_of(3)
    run_infer(
        model=two_outputs(tmp_path / "m.onnx", 2),
        input=write_rows(tmp_path / "in", rows),
        output=tmp_path / "out",
        output_dirname="run",
        outfmt="TXT",
        say=nothing,
    )
    entries, _ = read_summary(tmp_path / "out" / "run_summary.json")
    for number, entry in enumerate(entries):
        assert entry.outfiles == tuple(f"{tmp_path}/out/run/video_{number}_{k}.txt" for k in range(2))
        np.testing.assert_allclose(read_output(entry.outfiles[0]), 2 * rows[number : number + 1], atol=1e-6)
        assert Path(entry.outfiles[1]).read_text() == f"{rows[number].argmax()} \n"


def test_several_inputs_are_fed_side_by_side(tmp_path: Path):
    a, b = rows_of(3), np.array([[1, 2], [3, 4], [5, 6]], np.int32)
    folders = [write_rows(tmp_path / "a", a), write_rows(tmp_path / "b", b)]
    run_infer(
        model=two_inputs(tmp_path / "m.onnx", 2),
        input=folders,
        output=tmp_path / "out",
        output_dirname="run",
        outfmt="NPY",
        say=nothing,
    )
    entries, _ = read_summary(tmp_path / "out" / "run_summary.json")
    assert entries[2].infiles == (f"{tmp_path}/a/video_2.bin", f"{tmp_path}/b/video_2.bin")
    found = np.concatenate([np.load(entry.outfiles[0]) for entry in entries])
    np.testing.assert_allclose(found, a + b.sum(axis=1, keepdims=True), rtol=1e-6)


def test_outputs_are_shared_out_along_the_axis_given(tmp_path: Path):
    model = save(
        tmp_path / "m.onnx",
        """<ir_version: 8, opset_import: ["" : 13]>
        t (float[2,4] x) => (float[4,2] y) { y = Transpose <perm = [1, 0]> (x) }""",
    )
    rows = rows_of(3)
    common = {"model": model, "input": write_rows(tmp_path / "in", rows), "outfmt": "NPY", "say": nothing}
    run_infer(output=tmp_path / "out", output_dirname="run", output_batchsize_axis=1, **common)
    for number in range(3):
        found = np.load(tmp_path / "out" / "run" / f"video_{number}_0.npy")
        np.testing.assert_array_equal(found, rows[number].reshape(4, 1))
    with pytest.raises(UsageError, match=r"shape \(4, 2\), which --output_batchsize_axis 2"):
        run_infer(output=tmp_path / "out", output_dirname="no", output_batchsize_axis=2, **common)
    three = write_rows(tmp_path / "three", rows_of(3))
    wide = save(tmp_path / "w.onnx", (
        '<ir_version: 8, opset_import: ["" : 13]>\n'
        "s (float[2,4] x) => (float[1,4] y) { y = ReduceMean <axes = [0]> (x) }"
    ))  # fmt: skip
    with pytest.raises(UsageError, match="cannot split into the 2 files"):
        run_infer(model=wide, input=three, output=tmp_path / "out", output_dirname="wide", say=nothing)


def test_without_input_it_is_the_pure_performance_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    model = two_outputs(tmp_path / "m.onnx", 2)
    result = run_infer(model=model, loop=20, display_all_summary=True)
    printed = capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert (len(result.compute_ms), len(result.h2d_ms), result.summary) == (20, 1, None)
    assert "get filesperbatch" not in printed and "output path" not in printed
    assert re.findall(r"(\w+) \(ms\): min = ", printed) == [
        "H2D_latency", "NPU_compute_time", "D2H_latency",
    ]  # fmt: skip
    assert float(THROUGHPUT.findall(printed)[0][2]) == result.throughput


def test_a_pure_loop_writes_one_file_for_each_output(tmp_path: Path):
    model = two_outputs(tmp_path / "m.onnx", 2)
    run_infer(model=model, loop=3, output=tmp_path, output_dirname="pure", outfmt="NPY", say=nothing)
    entries, document = read_summary(tmp_path / "pure_summary.json")
    assert [entry.infiles for entry in entries] == [("pure_infer_data",)]
    assert document["NPU_compute_time"]["count"] == 3 and document["H2D_latency"]["count"] == 1
    assert not np.load(tmp_path / "pure" / "pure_infer_data_0.npy").any()
    assert np.load(tmp_path / "pure" / "pure_infer_data_1.npy").tolist() == [0, 0]
    run_infer(
        model=model, pure_data_type="random", output=tmp_path, output_dirname="r", outfmt="NPY", say=nothing
    )
    assert np.load(tmp_path / "r" / "pure_infer_data_0.npy").any()


def test_loop_counts_every_execution(tmp_path: Path):
    folder = write_rows(tmp_path / "in", rows_of(5))
    result = run_infer(
        model=linear(tmp_path / "m.onnx", 2), input=folder, loop=4, warmup_count=0, say=nothing
    )
    assert (len(result.compute_ms), len(result.h2d_ms), len(result.d2h_ms)) == (12, 3, 3)


def test_the_folder_is_named_after_the_time_as_ais_bench_does(tmp_path: Path):
    result = run_infer(model=linear(tmp_path / "m.onnx", 1), output=tmp_path / "o", say=nothing)
    assert result.summary is not None
    assert re.fullmatch(r"\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d_summary\.json", result.summary.name)
    assert (tmp_path / "o" / result.summary.name.removesuffix("_summary.json")).is_dir()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"output_dirname": "x"}, "cannot be used alone"),
        ({"output": "o", "output_dirname": "/abs"}, "absolute path"),
        ({"output": "o", "output_dirname": "../up"}, r"\.\."),
        ({"output": "o", "output_dirname": ""}, "must be a folder"),
        ({"loop": 0}, "--loop must be at least 1"),
        ({"warmup_count": -1}, "--warmup_count must be at least 0"),
        ({"batchsize": 0}, "--batchsize must be at least 1"),
        ({"output_batchsize_axis": -1}, "--output_batchsize_axis"),
        ({"outfmt": "npy"}, "BIN, NPY, TXT"),
        ({"pure_data_type": "ones"}, "zero, random"),
    ],
)
def test_options_out_of_range_are_refused(
    options: dict[str, object], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=words):
        run_infer(model=linear(tmp_path / "m.onnx", 1), say=nothing, **options)
    assert not (tmp_path / "o").exists()


def test_a_bad_file_is_refused_before_anything_is_written(tmp_path: Path):
    folder = write_rows(tmp_path / "in", rows_of(3))
    (folder / "video_2.bin").write_bytes(bytes(3))
    with pytest.raises(BadDataError, match=r"video_2\.bin has 3 bytes"):
        run_infer(model=linear(tmp_path / "m.onnx", 1), input=folder, output=tmp_path / "out", say=nothing)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("warmup_count", [0, 1, 4])
@pytest.mark.parametrize("files", [True, False])
def test_the_model_is_executed_once_per_warm_up_and_loop(
    warmup_count: int, files: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    execute, executions = OnnxRuntimeEngine.execute, []

    def counted(engine: OnnxRuntimeEngine, feeds: dict[str, Any]) -> list[Any]:
        executions.append(1)
        return execute(engine, feeds)

    monkeypatch.setattr(OnnxRuntimeEngine, "execute", counted)
    inputs = {"input": write_rows(tmp_path / "in", rows_of(6))} if files else {}
    result = run_infer(
        model=linear(tmp_path / "m.onnx", 2), loop=3, warmup_count=warmup_count, say=nothing, **inputs
    )
    batches = 3 if files else 1
    assert len(executions) == warmup_count + 3 * batches
    assert len(result.compute_ms) == 3 * batches
