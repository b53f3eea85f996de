from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from ascend_bench import Bench
from onnx_models import linear, rows_of

from infer.__main__ import main
from infer.engines.choice import choose_engine
from infer.engines.engine_options import AscendOptions, OnnxRuntimeOptions
from infer.engines.engine_request import AutoOptions
from vidom.errors import UnavailableError, UsageError
from vidom.formats.engine_outputs import read_summary


@pytest.fixture
def ready(bench: Bench) -> Bench:
    """`m.onnx` and, built from it, the stub of `m.om`."""
    linear(bench.folder / "m.onnx", 2)
    bench.model(2)
    return bench


def built_from(bench: Bench, content: bytes) -> None:
    made_from = {"model_sha256": hashlib.sha256(content).hexdigest()}
    (bench.folder / "build.json").write_text(json.dumps({"models": {"m.om": {"made_from": made_from}}}))


def npu(bench: Bench, fixtures: Path) -> None:
    bench.npu_smi(fixtures / "ascend" / "npu_smi" / "real_310P3_modelzoo_22.x.txt")


def test_auto_takes_the_npu_where_all_is_there(ready: Bench, fixtures: Path):
    npu(ready, fixtures)
    for model in ("m.onnx", "m.om"):
        choice = choose_engine(Path(model), AutoOptions())
        assert (choice.options, choice.model) == (AscendOptions(), Path("m.om"))
        assert "NPU and ais_bench are available" in choice.reason


def test_auto_says_what_keeps_it_from_the_npu(ready: Bench, fixtures: Path):
    choice = choose_engine(Path("m.onnx"), AutoOptions())
    assert (choice.options, choice.model, choice.reason) == (
        OnnxRuntimeOptions(), Path("m.onnx"), "npu-smi is not on PATH",
    )  # fmt: skip
    npu(ready, fixtures)
    ready.play("F24")
    ready.without_pkg_resources()
    assert "setuptools<82" in choose_engine(Path("m.onnx"), AutoOptions()).reason
    (ready.folder / "m.om").unlink()
    assert "no m.om" in choose_engine(Path("m.onnx"), AutoOptions()).reason


def test_auto_passes_over_an_om_of_another_onnx(ready: Bench, fixtures: Path):
    npu(ready, fixtures)
    built_from(ready, (ready.folder / "m.onnx").read_bytes())
    assert choose_engine(Path("m.onnx"), AutoOptions()).options == AscendOptions()
    built_from(ready, b"another graph")
    choice = choose_engine(Path("m.onnx"), AutoOptions())
    assert choice.options == OnnxRuntimeOptions() and "built from a different m.onnx" in choice.reason


def test_an_om_without_an_npu_is_lacking_and_the_wrong_engine_is_refused(ready: Bench):
    with pytest.raises(UnavailableError, match=r"m\.om is an offline model.*npu-smi is not on PATH"):
        choose_engine(Path("m.om"), AutoOptions())
    with pytest.raises(UsageError, match="which --engine onnxruntime cannot run"):
        choose_engine(Path("m.om"), OnnxRuntimeOptions())
    with pytest.raises(UsageError, match=r"--engine ascend runs offline models, and m\.onnx is not one"):
        choose_engine(Path("m.onnx"), AscendOptions())


def test_the_command_says_which_engine_and_why(
    ready: Bench, capfd: pytest.CaptureFixture[str], fixtures: Path
):
    ready.inputs(rows_of(3))
    words = ["--input", "./in", "--output", "./o", "--output_dirname", "run"]
    main(["--model", "m.onnx", *words])
    assert "[INFO] engine onnxruntime: npu-smi is not on PATH" in capfd.readouterr().out
    npu(ready, fixtures)
    main(["--model", "m.onnx", "--device", "0,1", *words])
    printed = capfd.readouterr()
    assert "[INFO] engine ascend: m.om is next to the model" in printed.out
    assert "ais_bench --model m.om" in printed.err and "Ascend310P3" in printed.out
    entries, document = read_summary("o/run_summary.json")
    assert len(entries) == 3 and document["vidom"]["engine"] == "ascend"
    main(["--model", "m.onnx", "--engine", "onnxruntime", *words])
    _, document = read_summary("o/run_summary.json")
    assert document["vidom"]["engine"] == "onnxruntime"
    assert sorted(path.name for path in Path("o").iterdir()) == ["run", "run_summary.json"]


def test_auto_takes_the_options_of_the_chosen_engine_only(ready: Bench, fixtures: Path):
    threads, limit = AutoOptions({"threads": 2}), AutoOptions({"time_limit": 5.0, "device": (0, 1)})
    assert choose_engine(Path("m.onnx"), threads).options == OnnxRuntimeOptions(threads=2)
    with pytest.raises(UsageError, match="--time_limit belongs to ascend"):
        choose_engine(Path("m.onnx"), limit)
    npu(ready, fixtures)
    assert choose_engine(Path("m.onnx"), limit).options == AscendOptions(devices=(0, 1), time_limit=5.0)
    with pytest.raises(UsageError, match="--threads belongs to onnxruntime and openvino"):
        choose_engine(Path("m.onnx"), threads)


def test_the_command_refuses_an_option_of_another_engine_with_2(ready: Bench):
    for words in (
        ["--model", "m.onnx", "--time_limit", "5"],
        ["--model", "m.om", "--engine", "ascend", "--provider", "CUDA"],
        ["--model", "m.onnx", "--engine", "onnxruntime", "--device", "0,1"],
    ):
        with pytest.raises(UsageError) as refused:
            main(words)
        assert refused.value.exit_code == 2
