from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from killed_runs import FILES, contents, killed_in_the_middle
from onnx_models import linear, rows_of, save, two_outputs, write_rows
from run_infer import run_infer

from infer.__main__ import main
from infer.batches.performance import InferenceResult
from infer.engines.engine_options import OnnxRuntimeOptions, OpenVinoOptions
from vidom.errors import UnavailableError, UsageError
from vidom.formats.engine_outputs import read_output, read_summary

openvino = pytest.importorskip("openvino", reason="needs the package openvino (make extras)")
needs_bf16 = pytest.mark.skipif(
    "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
    reason="this processor has no bfloat16 instructions",
)


def run(
    model: Path, folder: Path, output: Path, *, precision: str = "f32", **options: object
) -> InferenceResult:
    return run_infer(
        **{
            "model": model,
            "input": folder,
            "output": output,
            "output_dirname": "run",
            "engine": OpenVinoOptions(precision=precision),
            "say": lambda _: None,
            **options,
        }
    )


@pytest.mark.parametrize("outfmt", ["NPY", "BIN", "TXT"])
def test_every_format_holds_what_onnx_runtime_writes(outfmt: str, tmp_path: Path):
    model = two_outputs(tmp_path / "m.onnx", 2)
    folder = write_rows(tmp_path / "in", rows_of(5))
    for engine in (OnnxRuntimeOptions(), OpenVinoOptions()):
        run(model, folder, tmp_path / engine.name, outfmt=outfmt, engine=engine)
    wanted, found = (
        read_summary(tmp_path / name / "run_summary.json") for name in ("onnxruntime", "openvino")
    )
    assert [entry.infiles for entry in found[0]] == [entry.infiles for entry in wanted[0]]
    for ours, theirs in zip(found[0], wanted[0], strict=True):
        scores = [read_output(entry.outfiles[0], classes=4) for entry in (ours, theirs)]
        np.testing.assert_allclose(*scores, rtol=0, atol=1e-5)
        assert Path(ours.outfiles[1]).read_bytes() == Path(theirs.outfiles[1]).read_bytes()
    own, other = found[1]["vidom"], wanted[1]["vidom"]
    assert (own["engine"], own["device"], own["precision"]) == ("openvino", "CPU (OpenVINO, f32)", "f32")
    assert (own["samples"], own["padded_rows"]) == (other["samples"], other["padded_rows"]) == (5, 1)
    assert own.keys() - other.keys() == {"precision"} and found[1].keys() == wanted[1].keys()


def test_a_symbolic_batch_and_the_pure_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = linear(tmp_path / "m.onnx", "N")
    main(
        [
            "--model",
            str(model),
            "--engine",
            "openvino",
            "--precision",
            "f32",
            "--loop",
            "3",
            "--dymBatch",
            "4",
        ]
    )
    printed = capsys.readouterr().out
    assert "throughput 1000*batchsize.mean(4)" in printed
    assert "device: CPU (OpenVINO, f32)" in printed and "no NPU was used" in printed
    with pytest.raises(UsageError, match="fixed batch of 2"):
        run(linear(tmp_path / "f.onnx", 2), write_rows(tmp_path / "in", rows_of(2)), tmp_path, dym_batch=2)


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_bytes(tmp_path: Path):
    model = two_outputs(tmp_path / "m.onnx", 2)
    folder = write_rows(tmp_path / "in", rows_of(FILES))
    killed_in_the_middle(model, folder, tmp_path / "killed", "--engine", "openvino")
    again = run(model, folder, tmp_path / "killed")
    whole = run(model, folder, tmp_path / "whole")
    assert 0 < again.resumed < FILES // 2 and whole.resumed == 0
    assert contents(tmp_path / "killed" / "run") == contents(tmp_path / "whole" / "run")


def journal(tmp_path: Path, **options: object) -> dict[str, object]:
    """The header of the journal that a run leaves which fails at its second file."""
    model, folder = linear(tmp_path / "m.onnx", 1), tmp_path / "in"
    if not folder.exists():
        write_rows(folder, rows_of(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("infer.batches.in_process.run_batches", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(model, folder, tmp_path / "out", **options)
    return json.loads((tmp_path / "out" / "run.journal.jsonl").read_text().splitlines()[0])


def interrupt(*_arguments: object) -> None:
    raise KeyboardInterrupt


@needs_bf16
def test_a_journal_is_of_one_engine_and_one_precision(tmp_path: Path):
    headers = [
        journal(tmp_path, **options)
        for options in ({"engine": OnnxRuntimeOptions()}, {"precision": "f32"}, {"precision": "bf16"})
    ]
    assert [header["engine"] for header in headers] == ["onnxruntime", "openvino", "openvino"]
    assert [header.get("precision") for header in headers] == [None, "f32", "bf16"]


CLASSES = 9


@pytest.fixture
def close_calls(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """A linear model whose classes are so alike that bfloat16 mistakes some, 40 rows, and their scores in float64."""
    generator = np.random.default_rng(3)
    weights = (1 + 0.01 * generator.normal(size=(64, CLASSES))).astype(np.float32)
    rows = generator.normal(size=(40, 64)).astype(np.float32)
    values = ",".join(repr(float(value)) for value in weights.flat)
    model = save(
        tmp_path / "close.onnx",
        f"""<ir_version: 8, opset_import: ["" : 13]>
        close (float[4,64] x) => (float[4,{CLASSES}] y) <float[64,{CLASSES}] W = {{{values}}}>
        {{ y = MatMul (x, W) }}""",
    )
    return model, rows, rows.astype(np.float64) @ weights


@needs_bf16
def test_bf16_tells_the_flips_that_its_own_files_show(
    close_calls: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path
):
    model, rows, truth = close_calls
    lines: list[str] = []
    folder = write_rows(tmp_path / "in", rows[:39])  # the last batch has a row of padding
    options = {"precision": "bf16", "outfmt": "NPY", "check": "all", "say": lines.append}
    run(model, folder, tmp_path / "out", **options)
    entries, document = read_summary(tmp_path / "out" / "run_summary.json")
    found = np.concatenate([np.load(entry.outfiles[0]) for entry in entries])
    flips = sum(
        int(np.argmax(one)) != int(np.argmax(other)) for one, other in zip(truth, found, strict=False)
    )
    five = [[set(np.argsort(-row)[:5]) for row in table] for table in (truth[:39], found)]
    changes = sum(one != other for one, other in zip(*five, strict=True))
    told = document["vidom"]["bf16_against_f32"]
    assert 0 < flips < 39 and changes > 0
    assert (told["samples"], told["of"], told["rows"]) == (39, 39, 39)
    assert (told["top1_flips"], told["top5_changes"]) == (flips, changes)
    assert told["max_difference"] == pytest.approx(np.abs(found - truth[:39]).max(), abs=1e-5)
    assert any(f"on 39 samples: {flips} top-1 flips, {changes} top-5 sets changed" in line for line in lines)
    assert document["vidom"]["device"] == "CPU (OpenVINO, bf16)"


@needs_bf16
def test_fewer_samples_are_taken_from_all_over_the_run(
    close_calls: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path
):
    model, rows, truth = close_calls
    folder = write_rows(tmp_path / "in", rows)
    run(model, folder, tmp_path / "out", precision="bf16", outfmt="NPY", check=6)
    entries, document = read_summary(tmp_path / "out" / "run_summary.json")
    chosen = [*range(0, 4), *range(20, 24)]  # 2 of the 10 batches of 4
    found = np.concatenate([np.load(entries[number].outfiles[0]) for number in chosen])
    told = document["vidom"]["bf16_against_f32"]
    assert (told["samples"], told["of"]) == (8, 40)
    assert told["top1_flips"] == int((found.argmax(1) != truth[chosen].argmax(1)).sum())
    assert told["max_difference"] == pytest.approx(np.abs(found - truth[chosen]).max(), abs=1e-5)


@needs_bf16
def test_the_command_tells_it_too(
    close_calls: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model, rows, _ = close_calls
    folder = write_rows(tmp_path / "in", rows)
    words = ["--model", str(model), "--input", str(folder), "--engine", "openvino", "--precision", "bf16"]
    main([*words, "--check", "4"])
    told = capsys.readouterr().out
    assert "bf16 against f32 on 4 samples of 40: " in told and "--check all" in told
    main([*words[:2], "--engine", "openvino", "--precision", "bf16"])
    assert "bf16 against f32 on 4 samples: 0 top-1 flips" in capsys.readouterr().out  # a batch of zeros
    for wrong in ("0", "some"):
        with pytest.raises((UsageError, SystemExit)):
            main([*words, "--check", wrong])


def test_float32_needs_no_check(tmp_path: Path):
    result = run(linear(tmp_path / "m.onnx", 1), write_rows(tmp_path / "in", rows_of(2)), tmp_path / "out")
    assert result.precision_check is None
    assert "bf16_against_f32" not in read_summary(tmp_path / "out" / "run_summary.json")[1]["vidom"]


def test_without_the_package_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = write_rows(tmp_path / "in", rows_of(2))
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UnavailableError, match="make extras"):
        run(linear(tmp_path / "m.onnx", 1), folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_offline_model_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="which --engine openvino cannot run"):
        run_infer(model=tmp_path / "m.om", engine=OpenVinoOptions(), say=lambda _: None)
