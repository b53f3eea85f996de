"""Predictions by an engine that is asked for, with a stub of ais_bench: no NPU takes part."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from ascend_bench import Bench
from evaluation_cases import SHAPE, WEIGHTS, om_model, sum_model, write_recipe

from infer.predict import main
from vidom.cli import VERBS, steps_of
from vidom.errors import BadDataError, ExternalToolError, UnavailableError, UsageError

COMMON = ["--recipe", "sums.yaml", "--video", "clip.mp4", "--top", "7"]


@pytest.fixture
def ready(bench: Bench, video: Path) -> Bench:
    """The recipe `sums`, its model as .onnx and as an .om of batch 2, and a video."""
    write_recipe(bench.folder)
    sum_model(Path("m.onnx"), 2)
    om_model(Path("m.om"), 2)
    return bench


def record(**made_from: object) -> None:
    Path("build.json").write_text(json.dumps({"models": {"m.om": {"made_from": made_from}}}))


def test_the_npu_that_is_asked_for_ranks_the_classes(ready: Bench, capfd: pytest.CaptureFixture[str]):
    main([*COMMON, "--model", "m.onnx", "--engine", "onnxruntime"])
    wanted = capfd.readouterr()
    assert "ais_bench" not in wanted.err
    for devices in ("0", "0,1"):
        main([*COMMON, "--model", "m.om", "--engine", "ascend", "--device", devices])
        found = capfd.readouterr()
        assert found.out == wanted.out and len(found.out.splitlines()) == 7
        assert "-m ais_bench --model m.om" in found.err


def test_an_engine_that_cannot_run_it_is_refused(ready: Bench, capfd: pytest.CaptureFixture[str]):
    for words, kind, told in (
        (
            ["--model", "m.onnx", "--engine", "ascend"],
            UsageError,
            "runs offline models, and m.onnx is not one",
        ),
        (
            ["--model", "none.om", "--engine", "ascend"],
            BadDataError,
            "none.om does not exist. Build it first",
        ),
        (["--model", "m.om", "--engine", "onnxruntime"], UsageError, "which --engine onnxruntime cannot run"),
        (["--model", "m.om"], UnavailableError, "npu-smi is not on PATH"),
        (["--model", "m.onnx", "--provider", "CUDA"], UnavailableError, "CUDA"),
    ):
        with pytest.raises(kind, match=told):
            main([*COMMON, *words])
    assert capfd.readouterr().out == ""


def test_make_predict_hands_on_engine_and_provider():
    verb = next(verb for verb in VERBS if verb.name == "predict")
    (step,) = steps_of(verb, ["tsm_demo", "--engine", "ascend", "--device", "1", "--video", "v.mp4"])
    words = " ".join(step.words)
    assert "tsm_demo_new_bs1.om" in words and "--engine ascend --device 1" in words
    (step,) = steps_of(verb, ["tsm_demo", "--engine", "onnxruntime", "--provider", "CUDA"])
    assert "tsm_demo_new_bs1.onnx --engine onnxruntime --provider CUDA" in " ".join(step.words)
    predict = (
        Path(__file__)
        .parents[2]
        .joinpath("Makefile")
        .read_text()
        .partition("\npredict:")[2]
        .partition("\n\n")[0]
    )
    assert "$(ON)" in predict


def test_the_input_is_made_in_the_dtype_of_the_record(ready: Bench, capfd: pytest.CaptureFixture[str]):
    main([*COMMON, "--model", "m.onnx", "--engine", "onnxruntime"])
    wanted = capfd.readouterr().out
    Path("m.om").write_text(json.dumps({"rows": 2, "dtype": "uint8", "weights": WEIGHTS.tolist()}))
    record(input_dtype="uint8", command=["atc", f"--input_shape=clips:2,{','.join(map(str, SHAPE))}"])
    main([*COMMON, "--model", "m.om", "--engine", "ascend"])
    assert capfd.readouterr().out == wanted


def test_a_model_of_single_views_is_refused(ready: Bench):
    flat = int(np.prod(SHAPE)) // 2
    Path("m.om").write_text(json.dumps({"rows": 2, "weights": WEIGHTS[:flat].tolist()}))
    with pytest.raises(UsageError, match=r"m\.om returns 2 rows of scores for a sample"):
        main([*COMMON, "--model", "m.om", "--engine", "ascend"])


def test_what_a_failing_ais_bench_printed_is_kept(ready: Bench, tmp_path: Path):
    ready.patch.setenv("TMPDIR", str(tmp_path / "scratch"))
    ready.patch.setattr("tempfile.tempdir", None)
    (tmp_path / "scratch").mkdir()
    ready.behave("half")
    with pytest.raises(ExternalToolError, match=r"All that was printed is in (.*\.log)\.") as failure:
        main([*COMMON, "--model", "m.om", "--engine", "ascend"])
    (log,) = re.findall(r"printed is in (\S+\.log)", str(failure.value))
    assert "507011" in Path(log).read_text()
    ready.behave("")
    main([*COMMON, "--model", "m.om", "--engine", "ascend"])
    assert len(list((tmp_path / "scratch").iterdir())) == 1
