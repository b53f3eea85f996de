from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from ascend_bench import Bench
from onnx_models import linear, rows_of

from infer.__main__ import main
from infer.engines.choice import choose_engine
from infer.inference import infer
from vidom.errors import UnavailableError, UsageError
from vidom.formats.engine_outputs import read_summary


@pytest.fixture
def ready(bench: Bench) -> Bench:
    """`m.onnx` and, built from it, the stand-in for `m.om`."""
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
        choice = choose_engine(Path(model), "auto")
        assert (choice.engine, choice.model) == ("ascend", Path("m.om"))
        assert "NPU and ais_bench are here" in choice.reason


def test_auto_says_what_keeps_it_from_the_npu(ready: Bench, fixtures: Path):
    choice = choose_engine(Path("m.onnx"), "auto")
    assert (choice.engine, choice.model, choice.reason) == (
        "onnxruntime", Path("m.onnx"), "npu-smi is not on PATH",
    )  # fmt: skip
    npu(ready, fixtures)
    (ready.packages / "pkg_resources.py").unlink()
    assert "setuptools<82" in choose_engine(Path("m.onnx"), "auto").reason
    (ready.folder / "m.om").unlink()
    assert "no m.om" in choose_engine(Path("m.onnx"), "auto").reason


def test_auto_passes_over_an_om_of_another_onnx(ready: Bench, fixtures: Path):
    npu(ready, fixtures)
    built_from(ready, (ready.folder / "m.onnx").read_bytes())
    assert choose_engine(Path("m.onnx"), "auto").engine == "ascend"
    built_from(ready, b"another graph")
    choice = choose_engine(Path("m.onnx"), "auto")
    assert choice.engine == "onnxruntime" and "built from another m.onnx" in choice.reason


def test_an_om_without_an_npu_is_lacking_and_the_wrong_engine_is_refused(ready: Bench):
    with pytest.raises(UnavailableError, match=r"m\.om is an offline model.*npu-smi is not on PATH"):
        choose_engine(Path("m.om"), "auto")
    with pytest.raises(UsageError, match="which --engine onnxruntime can not run"):
        choose_engine(Path("m.om"), "onnxruntime")
    with pytest.raises(UsageError, match=r"--engine ascend runs offline models, and m\.onnx is none"):
        choose_engine(Path("m.onnx"), "ascend")
    with pytest.raises(UsageError, match="auto, onnxruntime, openvino, ascend"):
        choose_engine(Path("m.onnx"), "tpu")  # type: ignore[arg-type]


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
    assert "[INFO] engine ascend: m.om is beside the model" in printed.out
    assert "ais_bench --model m.om" in printed.err and "Ascend310P3" in printed.out
    entries, document = read_summary("o/run_summary.json")
    assert len(entries) == 3 and document["vidom"]["engine"] == "ascend"
    main(["--model", "m.onnx", "--engine", "onnxruntime", *words])
    _, document = read_summary("o/run_summary.json")
    assert document["vidom"]["engine"] == "onnxruntime"
    assert sorted(path.name for path in Path("o").iterdir()) == ["run", "run_summary.json"]


def test_what_one_engine_only_knows_is_refused_by_the_other(ready: Bench):
    with pytest.raises(UsageError, match="--time_limit stops ais_bench"):
        infer(model="m.onnx", engine="onnxruntime", time_limit=5, say=lambda _: None)
    with pytest.raises(UsageError, match="several devices"):
        infer(model="m.onnx", engine="onnxruntime", device="0,1", say=lambda _: None)
    with pytest.raises(UsageError, match="are ONNX Runtime's"):
        infer(model="m.om", engine="ascend", provider="CUDA", say=lambda _: None)
    with pytest.raises(UsageError, match="names a device twice"):
        infer(model="m.om", engine="ascend", device="1,1", say=lambda _: None)
    with pytest.raises(UsageError, match="--time_limit takes the seconds"):
        infer(model="m.om", engine="ascend", time_limit=0, say=lambda _: None)
